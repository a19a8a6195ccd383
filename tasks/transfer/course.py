"""A course: stages of training one behind the other in one loop, each with parameters and an optimiser of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tasks.config.build import call
from tasks.data.pixels import unit
from tasks.experiment import Bench
from tasks.runs.loop import Number, Optimiser, Stateful, loop
from tasks.runs.seeds import generator
from tasks.transfer.far import FarTask

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stage:
    """What one part of a course trains.

    Args:
        name: in the log.
        task: number of its task, whose images it sees.
        steps: of training.
        optimizer: ``{_target_: torch.optim.Adam, lr: 1e-3}``.
        begin: what is trained, as parameters (or groups of them) and a function from images to logits. Called with True before the
            first step, with False where a run that was ended goes on behind it.

    """

    name: str
    task: int
    steps: int
    optimizer: Mapping[str, Any]
    begin: Callable[[bool], tuple[Sequence[Any], Logits]]


class Course:
    """Trains stages in their order; a run that was ended goes on in the middle of one.

    Args:
        stages: one behind the other; those without steps are left out.
        tasks: whose images they see, by number.
        bench: the run.
        batch: images of a step.

    """

    def __init__(self, stages: Sequence[Stage], tasks: Sequence[FarTask], bench: Bench, batch: int) -> None:
        self.stages = [stage for stage in stages if stage.steps]
        self.tasks, self.bench, self.batch = tasks, bench, batch
        self.now = -1
        self.optimiser = Optimiser(self._make, lambda: self.parameters, "cosine")

    def run(self, state: Mapping[str, Stateful]) -> None:
        """Train to the end. ``state`` is all that stages move, loaded before this course takes up its stage."""
        steps = sum(stage.steps for stage in self.stages)
        loop(self._step, {**state, "course": self, "optimiser": self.optimiser}, self.bench, steps=steps)

    def state_dict(self) -> dict[str, int]:
        """Which stage is on."""
        return {"now": self.now}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take it up again."""
        if state["now"] >= 0:
            self._begin(state["now"], first=False)

    def _step(self, number: int) -> dict[str, Number | str]:
        place, local = self._place(number)
        if place != self.now:
            self.optimiser.end()
            self._begin(place, first=True)
        stage, task = self.stages[place], self.tasks[self.stages[place].task]
        rng = generator(self.bench.seeds["data"], "batch", stage.name, stage.task, local)
        chosen = torch.randint(len(task.train_labels), (self.batch,), generator=rng)
        x, y = unit(task.train_images[chosen]), task.train_labels[chosen]
        loss = self.optimiser.descend(lambda: cross_entropy(self.logits(x), y), local / stage.steps)
        return {"loss": loss, "task": f"{stage.name}: {task.name}"}

    def _place(self, number: int) -> tuple[int, int]:
        for place, stage in enumerate(self.stages):
            if number < stage.steps:
                return place, number
            number -= stage.steps
        raise IndexError(number)

    def _begin(self, place: int, *, first: bool) -> None:
        self.now = place
        self.parameters, self.logits = self.stages[place].begin(first)

    def _make(self, parameters: Any) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = call(self.stages[self.now].optimizer, "optimizer", parameters)
        return made


@torch.no_grad()
def accuracy(logits: Logits, task: FarTask) -> float:
    """The share of a task's test images whose class is right."""
    parts = [logits(unit(part)).argmax(1) for part in task.test_images.split(1000)]
    return float((torch.cat(parts) == task.test_labels).double().mean())
