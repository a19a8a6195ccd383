"""What a user shows a target: inputs, and where the samples lie in them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count
from neuromod.errors import RefusedError
from neuromod.target.samples import Axes, with_none


def parse_example(example: Any, batch_axis: Any) -> tuple[tuple[Tensor, ...], Axes]:
    """The inputs of an example, and the batch axis of each (0 or more; None of one that all samples share).

    Refused: what is no tensor or tuple of tensors, and a batch that is not where it is said to be.
    """
    inputs = (example,) if isinstance(example, Tensor) else _inputs(example)
    axes = _axes(batch_axis, len(inputs))
    _check(inputs, axes)
    # Negative axes count from the end of an input that may have another number of axes next time.
    return inputs, tuple(None if a is None else a % x.ndim for a, x in zip(axes, inputs, strict=True))


def _inputs(example: Any) -> tuple[Tensor, ...]:
    if isinstance(example, list | tuple):
        return tuple(example)
    raise RefusedError(
        f"an example is a tensor or a tuple of tensors, which the network takes by position; got a {type(example).__name__}; wrap "
        "a network that takes keywords or dicts in a module that takes tensors"
    )


def _axes(batch_axis: Any, inputs: int) -> tuple[int | None, ...]:
    given = [batch_axis] * inputs if not isinstance(batch_axis, list | tuple) else batch_axis
    if batch_axis is None or len(given) != inputs:
        raise RefusedError(
            f"batch_axis is one axis, or one for each of {inputs} inputs, None for a shared one; got {batch_axis!r}; correct it"
        )
    return tuple(None if a is None else count(a, "batch_axis", least=-64, most=63) for a in given)


def _check(inputs: Sequence[Any], axes: Axes) -> None:
    """Refuse an example that is no tuple of tensors with the batch where it is said to be."""
    if not inputs or len(inputs) != len(axes) or all(axis is None for axis in axes):
        raise RefusedError(
            f"an example is one tensor or several, with a batch axis each (or None, but not for all); got {len(inputs)} inputs and "
            f"batch_axis={axes if len(axes) != 1 else axes[0]}; pass them in order"
        )
    for place, (x, axis) in enumerate(zip(inputs, axes, strict=True)):
        if not isinstance(x, Tensor):
            raise RefusedError(
                f"an example holds tensors, which the network takes by position; input {place} is a {type(x).__name__}; wrap the "
                "network in a module that takes tensors alone"
            )
        if x.layout is not torch.strided:
            raise RefusedError(f"an input is a dense tensor; input {place} is {x.layout}; keep it in the network")
        if axis is not None and not -x.ndim <= axis < x.ndim:
            raise RefusedError(
                f"an input has the batch on axis {axis}; input {place} is {tuple(x.shape)}; if all samples share it, pass "
                f"batch_axis={with_none(axes, place)}"
            )
    sizes = [x.shape[axis] for x, axis in zip(inputs, axes, strict=True) if axis is not None]
    if len(set(sizes)) > 1 or sizes[0] < 1:
        odd = next((p for p, x in enumerate(inputs) if axes[p] is not None and x.shape[axes[p]] != sizes[0]), 0)
        raise RefusedError(
            f"inputs share one batch of at least one sample; got sizes {sizes}; if all samples share input {odd}, pass "
            f"batch_axis={with_none(axes, odd)}"
        )
