"""Task inference by trying tasks: every one, or the few that one gradient finds likely."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neuromod.arguments import shown, tensor
from neuromod.errors import RefusedError
from neuromod.inference.checks import check_inputs, check_objective, check_tasks
from neuromod.inference.objectives import Objective, entropy
from neuromod.modulated import Modulated


@torch.no_grad()
def brute_force(model: Modulated, x: Tensor, *, tasks: Sequence[int], objective: Objective = entropy) -> Tensor:
    """Scores (B, k) of the learned ``tasks`` for every input: minus the objective of the task's own logits, one forward for each task.

    For inputs that share an unknown task sum the scores over them: ``scores.sum(0).argmax()``.

    Args:
        model: what the tasks are tasks of.
        x: inputs (B, ...).
        tasks: learned tasks, one at least.
        objective: of logits (B, C) to (B,), small where the modulation fits.

    """
    tasks, x = check_tasks(model, tasks), check_inputs(model, x)
    check_objective(objective)
    return torch.stack([-objective(model(x, task=task)) for task in tasks], 1)


@torch.no_grad()
def verify(
    model: Modulated, x: Tensor, likely: Tensor, *, tasks: Sequence[int], objective: Objective = entropy
) -> Tensor:
    """Scores (B, k) as of `brute_force` for the likely tasks of each input, -inf for the others.

    Inputs are grouped by task: one forward for each task that anybody finds likely, B * m forwards of one input in all. Refused: a
    part of the inputs where samples meet inside the network.

    Args:
        model: what the tasks are tasks of.
        x: inputs (B, ...).
        likely: int64 (B, m), places in ``tasks``.
        tasks: learned tasks.
        objective: as of `brute_force`.

    """
    tasks, x = check_tasks(model, tasks), check_inputs(model, x)
    check_objective(objective)
    axis = model.target.batch_axis
    places = tensor(likely, "likely", 2, integers=True)
    if (
        len(places) != x.shape[axis]
        or not places.numel()
        or not 0 <= int(places.min()) <= int(places.max()) < len(tasks)
    ):
        raise RefusedError(
            f"likely holds places in tasks, (B, m) for B={x.shape[axis]} inputs; got {shown(likely)}; pass topk indices"
        )
    scores: Tensor | None = None
    for place in likely.unique().tolist():
        asked = (likely == place).any(1).nonzero().squeeze(1)
        if model.target.probe.meets is not None and len(asked) < len(likely):
            raise RefusedError(
                f"samples of this network meet, so a task is tried on all of them; task {tasks[place]} is likely for {len(asked)} "
                f"of {len(likely)}; call brute_force()"
            )
        found = -objective(model(x.index_select(axis, asked.to(x.device)), task=tasks[place]))
        if scores is None:
            scores = found.new_full((len(likely), len(tasks)), -torch.inf)
        scores[asked.to(found.device), place] = found
    assert scores is not None
    return scores
