"""Task inference in one forward and one backward (Wortsman et al. 2020, section 3.3)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neuromod.arguments import count, shown
from neuromod.bank import Bank
from neuromod.bank.packed import check_planes
from neuromod.errors import RefusedError
from neuromod.inference.checks import check_apart, check_bank, check_group, check_inputs, check_objective, check_tasks
from neuromod.inference.factors import factorable, factors
from neuromod.inference.objectives import Objective, entropy
from neuromod.modulated import Modulated
from neuromod.target.substitute import Edits


# reason: keywords alone behind the inputs, each a choice that a caller makes
def one_shot(
    model: Modulated,
    x: Tensor,
    *,
    tasks: Sequence[int],
    objective: Objective = entropy,
    sites: Sequence[str] | None = None,
    group: int = 1,
    bank: Bank | None = None,
    planes: int | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Scores (B, k) of the learned ``tasks`` for every input, from one gradient at the superposition of all tasks.

    With ``E_i`` the edits of task i (``W * M_i``) and ``p(a) = f(x ; sum_i a_i E_i)``, ``a_i = 1/k``:
    ``score_i = -dH/da_i = -sum_sites <E_i, dH/dE>``. So one gradient with respect to the mean edits serves all tasks, and
    the rest is k inner products. Inputs in a row that share an unknown task (``group`` of them) have their objectives
    summed, and one gradient: scores (G, k).

    Refused: heads of different widths, modulations that depend on more than the task, and single inputs of a network in which
    samples meet. Groups run side by side under `torch.vmap`; one after the other where torch can't (recurrent layers).

    Args:
        model: what the tasks are tasks of.
        x: inputs (B, ...).
        tasks: learned tasks.
        objective: of logits (..., C) to (...), small where the modulation fits.
        sites: restricts the sum to some tensors (those of the first layer, say).
        group: inputs that share a task; a rest that fills no group is left out.
        bank: of these tasks, kept from an earlier call, so that nothing is summed anew.
        planes: round the gradient to so many bits and count (`Bank.project`); None: exact.
        chunk: groups whose gradients are in memory at a time; by default as many as fill 64 MB, or 4 GB on a GPU.

    """
    tasks, x = check_tasks(model, tasks), check_inputs(model, x)
    check_objective(objective)
    check_bank(bank)
    chunk = None if chunk is None else count(chunk, "chunk", least=1)
    planes = None if planes is None else check_planes(planes)
    group = check_group(group, x.shape[model.target.batch_axis])
    check_apart(model, group, x)
    held = bank_of(bank, tasks) if bank is not None else Bank(model, tasks)
    mean = held.mean()
    watched = _watched(model, mean, sites)
    if group == 1 and planes is None and x.shape[model.target.batch_axis] > 1 and factorable(held, watched):
        parts = [held.project_factors(factors(held, part, mean, watched, objective)) for part in x.split(chunk or 4096)]
        return -torch.cat(parts)
    size = chunk or chunk_of(sum(mean[name].numel() for name in watched), x.device)
    pieces = [
        -held.project(gradients(model, part, mean, watched, objective), planes=planes)
        for part in in_groups(model, x, group).split(size)
    ]
    return torch.cat(pieces)


def chunk_of(numbers: int, device: torch.device) -> int:
    """How many rows of so many numbers are in memory at a time."""
    return max(1, (1 << (24 if device.type == "cpu" else 30)) // max(numbers, 1))


def in_groups(model: Modulated, x: Tensor, group: int) -> Tensor:
    """Inputs (B, ...) as groups (G, group, ...); a rest that fills none is left out.

    Args:
        model: says which axis is the batch.
        x: inputs.
        group: inputs of a group; refused outside 1..B.

    """
    samples = x.movedim(model.target.batch_axis, 0)
    group = check_group(group, len(samples))
    groups: Tensor = samples[: len(samples) // group * group].unflatten(0, (-1, group))
    return groups


def gradients(
    model: Modulated, x: Tensor, edits: Edits, names: Sequence[str], objective: Objective, *, each: bool = False
) -> Edits:
    """``dH/dE`` (G, ...) of some edits, by name, for every group of inputs, H summed over the group.

    Args:
        model: whose network runs.
        x: groups of inputs (G, g, ...).
        edits: where the gradient is taken; with ``each`` they have a leading axis of G, those of each group.
        names: of the edits to differentiate.
        objective: H of logits (..., C) to (...).
        each: whether every group has edits of its own.

    """
    axis = model.target.batch_axis
    fixed = {name: value for name, value in edits.items() if name not in names}

    def loss(moving: Edits, still: Edits, sample: Tensor) -> Tensor:
        return objective(model.skeleton(still | moving, (sample.movedim(0, axis),))).sum()

    # Inference needs gradients of its own, also where the caller has switched them off.
    with torch.inference_mode(False), torch.enable_grad():
        moving = {name: edits[name].clone() for name in names}
        if len(x) > 1 and model.target.unmapped is None:
            lead = 0 if each else None
            every = torch.func.vmap(torch.func.grad(loss), in_dims=(lead, lead, 0), randomness="different")
            return every(moving, fixed, x.clone())  # type: ignore[no-any-return]
        found = [_gradient(loss, _row(moving, i, each), _row(fixed, i, each), part.clone()) for i, part in enumerate(x)]
        return {name: torch.stack([one[name] for one in found]) for name in names}


def _row(edits: Edits, place: int, each: bool) -> Edits:
    return {name: value[place] for name, value in edits.items()} if each else edits


def _gradient(loss: Callable[[Edits, Edits, Tensor], Tensor], moving: Edits, still: Edits, x: Tensor) -> Edits:
    leaves = {name: value.detach().requires_grad_() for name, value in moving.items()}
    found = torch.autograd.grad(loss(leaves, still, x), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def bank_of(bank: Bank, tasks: Sequence[int]) -> Bank:
    """A bank that was kept, if it holds exactly these tasks."""
    if bank.tasks != tuple(tasks):
        raise RefusedError(
            f"a bank serves the tasks that it holds; it holds {len(bank)}, asked were {len(tasks)}, or in another order; "
            "pass tasks=bank.tasks"
        )
    return bank


def _watched(model: Modulated, mean: Edits, sites: Sequence[str] | None) -> list[str]:
    if sites is not None and (
        not isinstance(sites, list | tuple) or not all(isinstance(s, str) for s in sites) or not sites
    ):
        raise RefusedError(
            f"sites are names of tensors in a list; got {shown(sites)}; the model edits {sorted(mean)[:4]}"
        )
    unknown = [site for site in sites or () if site not in mean]
    if unknown:
        raise RefusedError(f"sites must be edited by the model; {unknown[0]!r} is not; it edits {sorted(mean)[:4]}")
    # Statistics of norms are averaged with the rest, but a norm has no derivative with respect to them.
    measured = dict(model.target.pristine.named_buffers())
    return [name for name in mean if name not in measured] if sites is None else list(sites)
