"""Where a task starts that comes after others: at the mean of what they learned (Wortsman et al. 2020, section 4.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from neuromod import Modulated
from neuromod.sources.base import by_site
from tasks.errors import UserError, nearest

FORMS = ("none", "scores", "masks")


class Transfer:
    """The running mean of the final scores, or masks, of earlier tasks, at the norm of a seeded start.

    ``s_new = m * |s_0| / |m|``: ``m`` is the mean of the scores, or of ``M - 1/2``; ``s_0`` the start that the kind draws.
    """

    def __init__(self, form: str) -> None:
        if form not in FORMS:
            raise UserError(f"transfer must be one of {FORMS}; got {form!r}; nearest: {nearest(str(form), FORMS)}")
        self.form = form
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def begin(self, model: Modulated, task: int) -> None:
        """Move the scores of a task that was just added."""
        for key, score in _scores(model, task).items():
            total = self.sums.get(key)
            if total is not None:
                score.copy_(total.to(score) * score.norm() / total.norm().clamp(min=1e-12).to(score))

    @torch.no_grad()
    def end(self, model: Modulated, task: int) -> None:
        """Add what a task has learned, before it is sealed."""
        if self.form == "none":
            return
        for key, score in _scores(model, task).items():
            value = score.detach().cpu() if self.form == "scores" else (score >= 0).float().cpu() - 0.5
            self.sums[key] = self.sums.get(key, torch.zeros_like(value)) + value


def _scores(model: Modulated, task: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, modulator in model.named_modulators().items():
        if modulator.kind.is_mask and task in modulator.source.tasks():
            own = by_site(modulator.source.own(task))
            found |= {f"{name}/{label}": raw["score"] for label, raw in own.items() if "score" in raw}
    return found


def steps_to(
    lines: Sequence[Mapping[str, Any]], accuracy: float, *, plan_steps: int, readings: int = 5
) -> dict[str, Any]:
    """Per task, the steps until the mean of some readings of the training accuracy is high enough; None: never.

    ``tasks``: these steps, in the order of the tasks. ``mean``: over the tasks behind the first, those that never reach
    it counted with all their steps; None for one task.

    Args:
        lines: of a run's metrics, with ``phase``, ``task``, ``step`` and ``accuracy``.
        accuracy: what is high enough, in [0, 1].
        plan_steps: training steps per task.
        readings: logged lines that the mean is over.

    """
    steps: dict[int, int | None] = {}
    for task in dict.fromkeys(line["task"] for line in lines if line["phase"] == "train"):
        own = [line for line in lines if line["phase"] == "train" and line["task"] == task]
        values = [line["accuracy"] for line in own]
        first = own[0]["step"] - own[0]["step"] % plan_steps
        reached = (i for i in range(readings, len(values) + 1) if sum(values[i - readings : i]) / readings >= accuracy)
        place = next(reached, None)
        steps[task] = None if place is None else own[place - 1]["step"] - first
    later = [plan_steps if value is None else value for value in list(steps.values())[1:]]
    return {"tasks": list(steps.values()), "mean": sum(later) / len(later) if later else None}
