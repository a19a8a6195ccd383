"""What a call says about inputs, tasks and conditions: parsed, or refused in one line."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neuromod.arguments import count, shown
from neuromod.errors import RefusedError
from neuromod.target.samples import Axes

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
Parsed = tuple[tuple[int, ...] | None, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Context:
    """What a call is about, parsed: all that a source may read.

    Args:
        inputs: of the network, the batch axis first; without those that all samples share.
        size: B, samples in the batch.
        tasks: the distinct ids in the batch; None where no task is given, or inside a compiled graph, where ids can't be read.
        index: int64 (B,), which of them each sample has; None: the first, for all.
        ids: inside a compiled graph, the integer tensor of ids itself.
        condition: as it was passed, for all samples or a leading axis of B.
        activation: from a module's name to its output (B, ...) in one unmodulated forward.

    """

    inputs: tuple[Tensor, ...]
    size: int
    tasks: tuple[int, ...] | None = None
    index: Tensor | None = None
    ids: Tensor | None = None
    condition: Tensor | None = None
    activation: Callable[[str], Tensor] | None = None

    def only(self, task: int) -> "Context":
        """The same call as if all samples had this one task."""
        return replace(self, tasks=(task,), index=None, ids=None)


def parse(
    inputs: tuple[Tensor, ...],
    task: int | Sequence[int] | Tensor | None,
    condition: int | Tensor | None,
    *,
    reads: Collection[str],
    axes: Axes,
) -> Context:
    """What a call says; refused in one line where that is nothing that the sources can use.

    Args:
        inputs: of the network.
        task: one id, B of them, or None.
        condition: for all samples, one for each, or None.
        reads: what the sources read.
        axes: the batch axis of each input that the network takes; None where all samples share it.

    """
    size = parse_inputs(inputs, axes)
    tasks, index, ids = parse_tasks(task, size, "task" in reads)
    first = tuple(x.movedim(axis, 0) for x, axis in zip(inputs, axes, strict=True) if axis is not None)
    return Context(first, size, tasks, index, ids, parse_condition(condition, "condition" in reads))


def parse_inputs(inputs: Sequence[Tensor], axes: Axes) -> int:
    """The batch size that the inputs share. Refused: another number of inputs, an empty batch, sizes that differ.

    Args:
        inputs: of a call.
        axes: the batch axis of each; None where all samples share it.

    """
    if not isinstance(inputs, tuple | list):
        raise RefusedError(f"inputs come in a tuple; got {shown(inputs)}; pass (x,)")
    if len(inputs) != len(axes):
        raise RefusedError(f"the network takes {len(axes)} inputs; got {len(inputs)}; pass them in order")
    for x, axis in zip(inputs, axes, strict=True):
        if not isinstance(x, Tensor) or x.is_nested or (axis is not None and x.ndim <= axis):
            raise RefusedError(f"an input is a tensor with the batch on axis {axis}; got {_form(x)}; stack the samples")
    sizes = [x.shape[axis] for x, axis in zip(inputs, axes, strict=True) if axis is not None]
    if any(size != sizes[0] for size in sizes) or (not torch.compiler.is_compiling() and not sizes[0]):
        raise RefusedError(f"inputs share one batch of at least one sample; got {sizes}; check batch_axis={axes}")
    size: int = sizes[0]
    return size


def _form(x: object) -> str:
    if not isinstance(x, Tensor):
        return type(x).__name__
    return "a nested tensor" if x.is_nested else str(tuple(x.shape))


def parse_tasks(task: int | Sequence[int] | Tensor | None, size: int, is_read: bool) -> Parsed:
    """Task ids as (distinct ids, index (B,) or None, None), or (None, None, ids) inside a compiled graph.

    Refuses ids that nobody reads, missing ids, bools, floats, negative ids and a wrong number of them.

    Args:
        task: one id, B of them in a list or an integer tensor, or None.
        size: B.
        is_read: whether some modulator reads the task.

    """
    if task is None:
        if is_read:
            raise RefusedError("a modulator reads the task; got none; pass task=id, or one id a sample")
        return None, None, None
    if not is_read:
        raise RefusedError("task= is given and no modulator reads it; drop it, or add a source that reads the task")
    if isinstance(task, Tensor):
        if task.dtype not in INTEGERS:
            raise RefusedError(f"task ids are integers; got a tensor of {task.dtype}; pass ids.long()")
        shape, listed = tuple(task.shape), None if torch.compiler.is_compiling() else task.reshape(-1).tolist()
    elif isinstance(task, str | bytes) or not isinstance(task, Iterable) or getattr(task, "shape", None) == ():
        shape, listed = (), [_id(task)]
    else:
        listed = [_id(t) for t in task]
        shape = (len(listed),)
    if shape not in ((), (size,)):
        got = f"shape {shape}" if isinstance(task, Tensor) else f"{shape[0]} ids"
        raise RefusedError(f"task is one id or one per sample ({size} here); got {got}; match the batch")
    if listed is None:
        assert isinstance(task, Tensor)
        return None, None, task
    if any(t < 0 for t in listed):
        raise RefusedError(
            f"task ids are not negative; got {min(listed)}; infer unknown tasks first (neuromod.inference)"
        )
    place = {t: i for i, t in enumerate(dict.fromkeys(listed))}
    if len(place) == 1:
        return (listed[0],), None, None
    return tuple(place), torch.tensor([place[t] for t in listed]), None


def _id(value: object) -> int:
    """One id, also of numpy; ids below zero are the business of the caller, who says where they come from."""
    try:
        return count(value, "a task id", least=-(2**63), most=2**63 - 1)
    except RefusedError:
        raise RefusedError(
            f"task ids are integers and not bools; got {shown(value)}; pass task=0, a list of ints or an integer tensor"
        ) from None


def parse_condition(condition: int | Tensor | None, is_read: bool) -> Tensor | None:
    """A condition as a tensor; its shape is the business of the source that reads it.

    Refused: one that nobody reads (``is_read`` False), a missing one, and what is neither a tensor nor one integer label.
    """
    if condition is None:
        if is_read:
            raise RefusedError("a modulator reads the condition; got none; pass condition=c, one row or one per sample")
        return None
    if not is_read:
        raise RefusedError("condition= is given and no modulator reads it; drop it, or add a source that reads it")
    if isinstance(condition, Tensor):
        return condition
    try:
        return torch.tensor(count(condition, "a label", least=-(2**63), most=2**63 - 1))
    except RefusedError:
        raise RefusedError(
            f"a condition is a tensor, or one integer label; got {type(condition).__name__}; convert it first"
        ) from None
