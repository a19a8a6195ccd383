"""Contexts that change inside a sequence: a schedule of tasks or conditions over time, run in segments that hand on the state."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.arguments import count, instance, shown, tensor
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.reservoirs.network import check_inputs, check_start, finite, finite_start


# reason: what a sequence is run on, and what may change on the way, each by its name
def unroll(
    model: Modulated,
    inputs: Tensor,
    *,
    task: int | Iterable[int] | Tensor | None = None,
    condition: Tensor | None = None,
    start: Tensor | None = None,
    every: int | None = None,
) -> Tensor:
    """States (B, T, N) of a modulated reservoir whose task or condition changes from step to step.

    The sequences are cut where anything changes in any of them, and each segment is one call of the model that begins at the states
    which the last one ended at. Gains of several tasks in one segment are gathered, a row per sample.

    A source that reads the input reads the segment: ``every=1`` gives it the input of each step.

    Refused: a schedule of another length, a model whose target does not take states, NaN.

    Args:
        model: a `Modulated` over ``Target(net, net.example())``.
        inputs: (B, T, D).
        task: one id; or ids by step (T,), or by sequence and step (B, T).
        condition: by step (T, C), or by sequence and step (B, T, C).
        start: states (B, N) before the first step; zeros where None.
        every: the longest segment; no limit where None.

    """
    net = stateful(model, "what is unrolled")
    like = model.target.like()
    u = finite(check_inputs(inputs, int(net.inputs), 3), "inputs of a reservoir").to(like)  # type: ignore[arg-type]
    batch, steps = u.shape[:2]
    asked = {"task": _tasks(task, batch, steps), "condition": _conditions(condition, batch, steps)}
    given = {name: value for name, value in asked.items() if value is not None}
    x = _start(start, batch, int(net.units), like)  # type: ignore[arg-type]
    found = []
    ends = [*_changes(given, steps, count(every, "every", least=1) if every is not None else steps), steps]
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        here = {name: value[:, first] for name, value in given.items()}
        found.append(model(u[:, first:last], x, **here))
        x = found[-1][:, -1]
    return torch.cat(found, 1)


def stateful(model: Modulated, what: str) -> nn.Module:
    """The network of a model whose target takes inputs and the states before them; ``what`` says what it is, for the refusal."""
    net = instance(model, Modulated, what).target.pristine
    if len(model.target.axes) != 2 or not hasattr(net, "units"):
        raise RefusedError(
            "a schedule hands states on; this target takes no states; make it with Target(reservoir, reservoir.example())"
        )
    return net


def _start(start: Any, batch: int, units: int, like: Tensor) -> Tensor:
    if start is None:
        return like.new_zeros(batch, units)
    return finite_start(check_start(start, (batch, units), "(B, N)")).to(like)


def _changes(given: dict[str, Tensor], steps: int, every: int) -> list[int]:
    """Steps, none of them the first, at which a segment begins."""
    changes = torch.zeros(steps, dtype=torch.bool)
    for value in given.values():
        moved = value[:, 1:] != value[:, :-1]
        changes[1:] |= (moved.any(-1) if moved.ndim == 3 else moved).any(0).cpu()
    starts, last = [], 0
    for step in range(1, steps):
        if bool(changes[step]) or step - last == every:
            starts.append(step)
            last = step
    return starts


def _tasks(task: Any, batch: int, steps: int) -> Tensor | None:
    if task is None:
        return None
    try:
        ids = torch.as_tensor(task if isinstance(task, Tensor | int) else list(task))
    except (TypeError, ValueError, RuntimeError):
        ids = torch.empty(0)
    if ids.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        raise RefusedError(f"a schedule holds ids of tasks by step; got {shown(task)}; pass integers (T,) or (B, T)")
    return _spread(ids.long(), batch, steps, 2, "a schedule of tasks")


def _conditions(condition: Any, batch: int, steps: int) -> Tensor | None:
    if condition is None:
        return None
    own = _spread(tensor(condition, "conditions of a schedule", 2, 3), batch, steps, 3, "a schedule of conditions")
    return finite(own, "conditions of a schedule")


def _spread(values: Tensor, batch: int, steps: int, axes: int, what: str) -> Tensor:
    """Values by sequence and step, whatever they were given by."""
    own = values.expand(steps) if not values.ndim else values
    own = own.unsqueeze(0) if own.ndim == axes - 1 else own
    if own.ndim != axes or own.shape[1] != steps or own.shape[0] not in (1, batch):
        raise RefusedError(
            f"{what} is by step, or by sequence and step, of {batch} sequences of {steps} steps; got {tuple(values.shape)}; match them"
        )
    return own.expand(batch, *own.shape[1:])
