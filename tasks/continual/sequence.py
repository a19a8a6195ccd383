"""One task after the other, or batches that mix all tasks; the accuracy matrix after each."""

from collections.abc import Sequence as Numbers
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tasks.continual.family import Continual, how, result
from tasks.continual.learners.base import Learner, accuracy, autocast, sum_over_tasks
from tasks.continual.measures import matrix as metrics
from tasks.continual.streams import Stream
from tasks.experiment import Bench, Result
from tasks.runs.loop import Number, Optimiser, factor_of, loop


class Accuracies:
    """The accuracy matrix (T, T) so far, and the accuracies (T,) before training where they were asked for."""

    def __init__(self, tasks: int) -> None:
        self.matrix = metrics.unmeasured(tasks)
        self.initial: Tensor | None = None

    def state_dict(self) -> dict[str, Tensor | None]:
        """The matrix (T, T) and the accuracies before training (T,), or None for these."""
        return {"matrix": self.matrix, "initial": self.initial}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.matrix, self.initial = state["matrix"], state["initial"]


@dataclass(frozen=True, kw_only=True)
class Sequence(Continual):
    """Tasks learned one after the other; after each, all tasks so far are tested.

    Args:
        schedule: of the rate over the steps of a task: ``constant``, ``cosine``, ``drops`` (by ten at half and at three
            quarters), or the dotted path of a function from the share of steps done in [0, 1) to a factor.

    """

    schedule: str = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        factor_of(self.schedule)

    def rounds(self, stream: Stream) -> list[list[int]]:
        """The tasks that are trained together, in their order."""
        return [[task] for task in range(len(stream))]

    def execute(self, bench: Bench) -> Result:
        """Train, test after each round, measure."""
        stream, learner = self.tasks(bench), self.learn(bench)
        rounds = self.rounds(stream)
        steps = self.steps * len(stream) // len(rounds) if learner.groups() else 0
        found, optimiser = Accuracies(len(stream)), self.optimiser(learner.groups, self.schedule)
        if self.evaluation.unseen and not bench.run.begun:
            found.initial = torch.tensor(list(self._test(learner, stream, range(len(stream))).values()))

        def after(number: int) -> None:
            optimiser.end()
            for task in rounds[number]:
                learner.after_task(task, stream[task])
            row = max(rounds[number])
            seen = range(len(stream)) if self.evaluation.unseen else range(row + 1)
            tested = self._test(learner, stream, seen)
            found.matrix[row, list(seen)] = torch.tensor(list(tested.values()), dtype=found.matrix.dtype)
            shown = {str(task): value for task, value in tested.items()}
            bench.run.log(step=(number + 1) * steps, phase="test", after=row, accuracy=shown)

        state = {"learner": learner, "optimiser": optimiser, "accuracies": found}
        step = _Step(self, learner, optimiser, bench, rounds, steps)
        loop(step, state, bench, steps=steps, rounds=len(rounds), after=after)
        learner.eval()
        first = {"matrix": metrics.of(found.matrix, found.initial)}
        trained = how(learner, "in sequence" if len(rounds) == len(stream) else "jointly")
        return result(
            learner, stream, metrics.average_accuracy(found.matrix), trained, self.measured(learner, bench, first)
        )

    def _test(self, learner: Learner, stream: Stream, tasks: Numbers[int]) -> dict[int, float]:
        learner.eval()
        options = self.evaluation.batch, self.precision
        return {task: accuracy(learner, stream[task], task, *options) for task in tasks}


@dataclass(frozen=True, kw_only=True)
class Joint(Sequence):
    """All tasks at once, in batches that mix them: ``steps`` times as many steps as there are tasks, one test at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.without_regulariser("run=joint mixes all tasks in every batch")

    def rounds(self, stream: Stream) -> list[list[int]]:
        """One round of all tasks."""
        return [list(range(len(stream)))]


class _Step:
    """One training step: a batch of the round's tasks, its loss, its gradient."""

    def __init__(
        self,
        options: Sequence,
        learner: Any,
        optimiser: Optimiser,
        bench: Bench,
        rounds: Numbers[Numbers[int]],
        steps: int,
    ) -> None:  # what a step needs, gathered once
        self.learner, self.optimiser, self.rounds, self.steps = learner, optimiser, rounds, steps
        self.precision, self.sampler = options.precision, options.sampler(bench, learner)
        self.round: int | None = None

    def __call__(self, number: int) -> dict[str, Number]:
        round_, place = divmod(number, self.steps)
        if round_ != self.round:
            self.round = round_
            self.learner.train()
        tasks, optimizer = self.rounds[round_], self.optimiser.begin()
        x, y, ids = self.sampler.draw(place, tasks)
        self.optimiser.set_rate(place / self.steps)
        with autocast(self.precision, x.device):
            logits = self.learner(x, tasks[0] if len(tasks) == 1 else ids)
            loss = sum_over_tasks(cross_entropy(logits, y, reduction="none"), ids)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.learner.before_step(place, optimizer)
        self.optimiser.step()
        self.learner.after_step(place, optimizer)
        right = (logits.argmax(1) == y).double().mean()
        task = tasks[0] if len(tasks) == 1 else None
        return {"task": task, "loss": loss.detach().double() / len(tasks), "accuracy": right}
