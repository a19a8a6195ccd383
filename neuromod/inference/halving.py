"""Task inference by halving: ``log2 k`` gradients, each drops the less likely half (Wortsman et al. 2020, section 3.3)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neuromod.arguments import count
from neuromod.bank import Bank
from neuromod.inference.checks import check_apart, check_bank, check_group, check_inputs, check_objective, check_tasks
from neuromod.inference.objectives import Objective, entropy
from neuromod.inference.one_shot import bank_of, chunk_of, gradients, in_groups
from neuromod.modulated import Modulated


# reason: keywords alone behind the inputs, each a choice that a caller makes
def halving(
    model: Modulated,
    x: Tensor,
    *,
    tasks: Sequence[int],
    objective: Objective = entropy,
    group: int = 1,
    bank: Bank | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Scores (G, k) for groups of inputs that share a task: the rounds that each task survived, 0 to ``ceil(log2 k)``.

    All tasks begin with ``a_i = 1/k``. A round takes ``dH/da`` of the group at its own superposition, drops the half of the
    remaining tasks with the larger values (of equal ones, the later), and sets ``a`` to one over the number that is left.
    Counting what was learned, and not what a table has room for, it ends for any k.

    Args:
        model: what the tasks are tasks of.
        x: inputs (B, ...).
        tasks: learned tasks.
        objective: H of logits (..., C) to (...), small where the modulation fits.
        group: inputs in a row that share a task.
        bank: of these tasks, kept from an earlier call.
        chunk: groups with superpositions of their own in memory at a time; by default as many as fill 64 MB, or 4 GB on a GPU.

    """
    tasks, x = check_tasks(model, tasks), check_inputs(model, x)
    check_objective(objective)
    check_bank(bank)
    chunk = None if chunk is None else count(chunk, "chunk", least=1)
    check_apart(model, check_group(group, x.shape[model.target.batch_axis]), x)
    held = bank_of(bank, tasks) if bank is not None else Bank(model, tasks)
    size = chunk or chunk_of(sum(value.numel() for value in held.mean().values()), x.device)
    return torch.cat([_halved(held, part, objective) for part in in_groups(model, x, group).split(size)])


def _halved(bank: Bank, x: Tensor, objective: Objective) -> Tensor:
    """One chunk: x (G, g, ...)."""
    count, k = len(x), len(bank)
    survived = torch.zeros(count, k)
    alive = torch.ones(count, k, dtype=torch.bool)
    left = k
    while left > 1:
        slope = _slopes(bank, x, alive, left, objective).cpu().masked_fill(~alive, torch.inf)
        left = math.ceil(left / 2)
        kept = slope.sort(dim=1, stable=True).indices[:, :left]
        alive = torch.zeros_like(alive).scatter_(1, kept, True)
        survived += alive
    return survived.to(x.device)


def _slopes(bank: Bank, x: Tensor, alive: Tensor, left: int, objective: Objective) -> Tensor:
    """``dH/da`` (G, k), H summed over each group, at the superposition of its remaining tasks."""
    target = bank.model.target
    edits = bank.superpose(alive.to(device=x.device, dtype=target.like().dtype) / left)
    measured = dict(target.pristine.named_buffers())
    watched = [name for name in edits if name not in measured]
    found = gradients(bank.model, x, edits, watched, objective, each=True)
    # Each group has gradients of its own superposition, so the inner products are those of any batch.
    return bank.project(found)
