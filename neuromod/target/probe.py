"""What a few forwards show of a network: which tensors are used, what each module puts out, which axis is the batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import ExampleError, RefusedError, refusing
from neuromod.seeds import generator, preserved
from neuromod.target.samples import (
    Axes,
    alone,
    has_twins,
    in_order,
    padded,
    repeated,
    size_of,
    taken,
    unlike,
    unordered,
    with_none,
)
from neuromod.target.structure import Path
from neuromod.target.watch import First, Log, Seen, watched, watched_first


@dataclass(frozen=True)
class Call:
    """One call of a module, or one tensor of the network's output.

    Args:
        shape: of the (first) tensor that it puts out, at the example's size.
        batch: the axis whose rows are the samples, in their order; None where no axis is.

    """

    shape: tuple[int, ...]
    batch: int | None


@dataclass(frozen=True)
class Probe:
    """What the network does with samples like the example's: what `Target` refuses sites by, and reads axes off.

    Args:
        used: names of the tensors that the forward reads.
        calls: of every module that is called, by name, its calls in order.
        outputs: every tensor of the network's output by path.
        order: names of the modules in the order of their first output.
        flow: pairs of modules without children of which the second reads what the first put out.
        same: of a module that puts out what another does (a container), the name of that one.
        reads: how often each tensor is read, by name.
        odd: names of modules that are not always called with one tensor alone.
        reached: names of tensors, and of modules' outputs, that a gradient reaches; None where that is not known.
        meets: where samples meet inside the network (statistics of the batch): the first module, or "" for its output; None
            where each sample goes its own way.
        fresh: whether each call runs on a copy of the modules: the network keeps something from call to call, writes into
            its own parameters, or is called again in the backward.
        written: names of the parameters that a forward writes into.
        writes_inputs: whether a forward writes into its inputs.

    """

    used: frozenset[str]
    calls: Mapping[str, tuple[Call, ...]]
    outputs: Mapping[Path, Call]
    order: tuple[str, ...]
    flow: tuple[tuple[str, str], ...]
    same: Mapping[str, str]
    reads: Mapping[str, int]
    odd: frozenset[str]
    reached: frozenset[str] | None
    meets: str | None
    fresh: bool
    written: frozenset[str]
    writes_inputs: bool

    @property
    def output_axes(self) -> Mapping[Path, int | None]:
        """The batch axis of every tensor of the output, by path."""
        return {path: call.batch for path, call in self.outputs.items()}


@dataclass(frozen=True)
class Runs:
    """The same network on B samples, on more, and on these in another order.

    Args:
        first: on B samples, with its backward.
        many: on more, the B in front.
        moved: on these in another order.
        order: that order.

    """

    first: First
    many: Log
    moved: Log
    order: Tensor


def probe(net: nn.Module, inputs: tuple[Tensor, ...], axes: Axes) -> Probe:
    """Run ``net`` on B samples (and backward), on one more, and on these in another order, and note what it does.

    An axis is that of the batch where its rows are those of the samples, in order, whatever the batch: found by values, never by
    shapes alone. Refused: a network that does not run on its example or at another batch size, and an output without a batch axis.

    Args:
        net: the pristine network.
        inputs: the example.
        axes: the batch axis of each input; None where all samples share it.

    """
    with preserved():
        runs = _runs(net, inputs, axes)
    first = runs.first
    outputs = {path: _call(runs, _output(path)) for path in first.outputs}
    if not any(call.batch is not None for call in outputs.values()):
        _refuse_shared(net, inputs, axes, first.size)
        shapes = [seen.shape for seen in first.outputs.values()]
        raise RefusedError(
            f"an output of a target must have an axis that follows the batch, its rows those of the samples in their order; got "
            f"shapes {shapes} at batch {first.size}; return a tensor with a batch axis, or check batch_axis"
        )
    meets = _meets(runs)
    if meets is not None:
        _refuse_shared(net, inputs, axes, first.size)
    calls = {
        name: tuple(_call(runs, _module(name, place, len(found))) for place in range(len(found)))
        for name, found in first.calls.items()
    }
    return Probe(
        used=frozenset(first.reads),
        calls=calls,
        outputs=outputs,
        order=tuple(first.calls),
        flow=tuple(first.flow),
        same=first.same,
        reads=first.reads,
        odd=frozenset(first.odd),
        reached=first.reached,
        meets=meets,
        fresh=first.keeps or first.recomputes or bool(first.written),
        written=first.written,
        writes_inputs=first.writes_inputs,
    )


def _runs(net: nn.Module, inputs: tuple[Tensor, ...], axes: Axes) -> Runs:
    size = size_of(inputs, axes)
    count = size + 1 if size > 1 else 3
    runs, others = None, unlike(inputs, axes, count, generator("probe"))
    for samples in (padded(others, axes), others):
        try:
            runs = _three(net, samples, axes, size)
        except RefusedError:  # samples that are not the user's may be wrong ones: the example itself has the last word
            continue
        if runs.first.finite:
            return runs
    plain = _three(net, repeated(inputs, axes, count), axes, size)
    if runs is not None and not plain.first.finite:
        return runs
    if all(axis is None or has_twins(x, axis) for x, axis in zip(inputs, axes, strict=True)):
        raise RefusedError(
            f"samples of an example differ, so that they can be told apart; got {size} alike, and the network takes no others; "
            "pass an example of distinct samples"
        )
    return plain


def _three(net: nn.Module, samples: tuple[Tensor, ...], axes: Axes, size: int) -> Runs:
    count = size_of(samples, axes)
    order = unordered(count)

    def run(watch: Callable[..., Any], places: Tensor, written: frozenset[str]) -> Any:
        with preserved(0):  # what a network draws in eval mode, it draws alike each time
            return watch(net, taken(samples, axes, places), len(places), written)

    rule = f"a target runs on its example; {type(net).__name__} does not"
    with refusing(rule, "check the example and batch_axis", ExampleError):
        first = run(watched_first, torch.arange(size), frozenset())
    try:
        with refusing(f"a target must accept any batch size; it ran at {size} and failed at {count}", ""):
            many = run(watched, torch.arange(count), first.written)
            return Runs(first, many, run(watched, order, first.written), order)
    except RefusedError as error:
        raise RefusedError(f"{error}{_remedy(net, samples, axes, size)}") from error.__cause__


def _refuse_shared(net: nn.Module, inputs: tuple[Tensor, ...], axes: Axes, size: int) -> None:
    with preserved():
        place = _shared(net, unlike(inputs, axes, size + 1, generator("probe")), axes, size)
    if place is not None:
        raise RefusedError(
            f"an input follows the batch, or all samples share it; input {place} of shape {tuple(inputs[place].shape)} does not "
            f"follow it; pass batch_axis={with_none(axes, place)}"
        )


def _remedy(net: nn.Module, samples: tuple[Tensor, ...], axes: Axes, size: int) -> str:
    place = _shared(net, samples, axes, size)
    shown = axes[0] if len(axes) == 1 else axes
    return (
        f"check batch_axis={shown}"
        if place is None
        else f"all share input {place}: pass batch_axis={with_none(axes, place)}"
    )


def _shared(net: nn.Module, samples: tuple[Tensor, ...], axes: Axes, size: int) -> int | None:
    """The place of an input that makes sense only where all samples share it; None where there is none."""
    for place in range(len(axes)) if sum(axis is not None for axis in axes) > 1 else ():
        others = with_none(axes, place)
        whole = tuple(
            x.narrow(axis, 0, size) if i == place and axis is not None else x
            for i, (x, axis) in enumerate(zip(samples, axes, strict=True))
        )
        try:
            runs = _three(net, whole, others, size)
        except RefusedError:
            continue
        followed = [_call(runs, _output(path)).batch for path in runs.first.outputs]
        if any(axis is not None for axis in followed) and _meets(runs) is None:
            return place
    return None


def _output(path: Path) -> Callable[[Log], Seen | None]:
    return lambda log: log.outputs.get(path)


def _module(name: str, place: int, count: int) -> Callable[[Log], Seen | None]:
    # A module that is called another number of times gets its samples by their values.
    return lambda log: log.calls[name][place] if len(log.calls.get(name, ())) == count else None


def _call(runs: Runs, of: Callable[[Log], Seen | None]) -> Call:
    first, many, moved = of(runs.first), of(runs.many), of(runs.moved)
    assert first is not None
    if many is None or moved is None or not len(first.shape) == len(many.shape) == len(moved.shape):
        return Call(first.shape, None)
    axes = [
        axis
        for axis in first.rows
        if axis in many.rows
        and axis in moved.rows
        and in_order(many.rows[axis], moved.rows[axis], runs.order, first.eps)
    ]
    return Call(first.shape, axes[0] if len(axes) == 1 else None)


def _meets(runs: Runs) -> str | None:
    """The first module, in the order of calls, that puts out rows of samples which depend on the others."""
    found = [
        (name, _module(name, place, len(calls)))
        for name, calls in runs.first.calls.items()
        for place in range(len(calls))
    ]
    for name, of in [*found, *(("", _output(path)) for path in runs.first.outputs)]:
        axis = _call(runs, of).batch
        first, many = of(runs.first), of(runs.many)
        if axis is None or first is None or many is None or not _same_but(first.shape, many.shape, axis):
            continue  # rows of other lengths: nothing can be compared
        if not alone(first.rows[axis], many.rows[axis], first.eps):
            return name
    return None


def _same_but(shape: tuple[int, ...], other: tuple[int, ...], axis: int) -> bool:
    return shape[:axis] + shape[axis + 1 :] == other[:axis] + other[axis + 1 :]
