"""The training of one task: some parameters, on its images, with an optimiser of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tasks.config.build import call
from tasks.data.image_set import ImageSet
from tasks.data.pixels import unit
from tasks.runs.loop import Number, Optimiser
from tasks.runs.seeds import generator

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class How:
    """How a task is trained.

    Args:
        optimizer: ``{_target_: torch.optim.Adam, lr: 1e-3}``; its rate falls by a cosine.
        steps: of training, 0 or more.
        batch: images of a step.
        seed: of its draws.
        draws: what tells them from those of other trainings under the same seed.

    """

    optimizer: Mapping[str, Any]
    steps: int
    batch: int
    seed: int
    draws: tuple[object, ...]


class Training:
    """Parameters trained on the images of a task; a part of a run (`tasks.runs.stages.Part`).

    Args:
        groups: parameters, or groups of them with options of the optimiser.
        logits: from images (B, C, H, W) from 0 to 1.
        task: whose images are seen.
        how: it is trained.
        kept: the module whose weights are kept with this part; None where another part keeps them.

    """

    def __init__(
        self,
        groups: Sequence[Tensor] | Sequence[dict[str, Any]],
        logits: Logits,
        task: ImageSet,
        how: How,
        kept: nn.Module | None = None,
    ) -> None:
        self.logits, self.task, self.how, self.kept = logits, task, how, kept
        self.optimiser = Optimiser(lambda given: call(how.optimizer, "optimizer", given), lambda: groups, "cosine")

    def step(self, number: int) -> Mapping[str, Number]:
        """One step of training."""
        how, labels = self.how, self.task.train_labels
        chosen = torch.randint(len(labels), (how.batch,), generator=generator(how.seed, "batch", *how.draws, number))
        x, y = unit(self.task.train_images[chosen]), labels[chosen]
        loss = self.optimiser.descend(lambda: cross_entropy(self.logits(x), y), number / how.steps)
        if number + 1 == how.steps:
            self.optimiser.end()
        return {"loss": loss}

    def state_dict(self) -> dict[str, Any]:
        """The optimiser, and what is kept."""
        kept = {} if self.kept is None else self.kept.state_dict()
        return {"kept": kept, "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        if self.kept is not None:
            self.kept.load_state_dict(state["kept"])
        self.optimiser.load_state_dict(state["optimiser"])


@torch.no_grad()
def accuracy(logits: Logits, task: ImageSet) -> float:
    """The share of a task's test images whose class is right."""
    parts = [logits(unit(part)).argmax(1) for part in task.test_images.split(1000)]
    return float((torch.cat(parts) == task.test_labels).double().mean())
