"""What questions about tasks are given: a model, inputs of it, and ids of learned tasks; or one line."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, function, instance, shown, task_ids
from neuromod.bank import Bank
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated


def check_tasks(model: Any, tasks: Any) -> tuple[int, ...]:
    """Ids of learned tasks of a model, one at least; None: all."""
    known = instance(model, Modulated, "model").tasks()
    found: tuple[int, ...] = known if tasks is None else task_ids(tasks)
    if not found:
        raise RefusedError("task inference needs learned tasks; got none; pass tasks=model.tasks()")
    unknown = [task for task in found if task not in known]
    if unknown:
        raise RefusedError(
            f"inferred tasks are learned ones; got task {unknown[0]}; known are {list(known)[:8]}; correct them"
        )
    return found


def check_inputs(model: Modulated, x: Any) -> Tensor:
    """Inputs that the network of a model takes, a batch of at least one."""
    example, axis = model.target.example, model.target.batch_axis
    like = example[0]
    check_logits(model)
    if len(example) != 1:
        raise RefusedError(
            f"tasks are inferred from one input; the network takes {len(example)}; name the task instead"
        )
    floats = like.is_floating_point() and not torch.is_autocast_enabled(like.device.type)
    if not isinstance(x, Tensor) or x.ndim != like.ndim or x.dtype.is_complex or not x.shape[axis]:
        raise RefusedError(f"inputs are a batch like the target's example, {shown(like)}; got {shown(x)}; correct them")
    if floats and x.dtype != like.dtype and like.dtype == model.target.like().dtype:
        raise RefusedError(f"inputs have the dtype of the target's example, {like.dtype}; got {x.dtype}; convert them")
    if x.narrow(axis, 0, 1).shape != like.narrow(axis, 0, 1).shape:
        # Images of another size may well do: the network is asked with one of them.
        try:
            with torch.no_grad():
                model.target(x.narrow(axis, 0, 1))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RefusedError(f"the network takes no such inputs; got {shown(x)} ({reason}); correct them") from error
    return x


def check_bank(bank: Any) -> None:
    """Refuse what is neither a bank nor None."""
    if bank is not None:
        instance(bank, Bank, "bank")


def check_objective(objective: Any) -> Callable[[Tensor], Tensor]:
    """A function of logits."""
    made: Callable[[Tensor], Tensor] = function(objective, "objective")
    return made


def check_group(group: Any, size: int) -> int:
    """Inputs of a group, 1 to B."""
    try:
        return count(group, "group", least=1, most=size)
    except RefusedError:
        raise RefusedError(f"a group has 1 to B={size} inputs; got group={shown(group)}; correct it") from None


def check_apart(model: Modulated, group: int, x: Tensor) -> None:
    """Refuse single inputs of several where samples meet inside the network: an input by itself has another output there.

    Args:
        model: whose network it is.
        group: inputs that are judged together.
        x: all inputs.

    """
    size = x.shape[model.target.batch_axis]
    if model.target.probe.meets is not None and group == 1 < size:
        raise RefusedError(
            f"samples of this network meet, so no input is judged by itself; got group=1 for {size} inputs; pass group={size} for "
            "inputs that share a task"
        )


def check_logits(model: Modulated) -> None:
    """Refuse a network that puts out something else than logits (B, C): which axis holds the classes is then not known."""
    outputs = model.target.probe.outputs
    alone = outputs.get(())
    if alone is None or len(alone.shape) != 2 or alone.batch != 0:
        got = f"{len(outputs)} tensors" if alone is None else f"{alone.shape}, the batch on axis {alone.batch}"
        raise RefusedError(
            f"tasks are inferred from logits (B, classes); the network puts out {got}; wrap it so that it returns those"
        )
