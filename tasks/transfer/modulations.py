"""Far tasks by any kind of modulation of one trained network: what each byte of a task buys."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from neuromod import Modulated, Target, random_delta
from tasks.config.build import target_of
from tasks.config.fields import Count, Steps, Weight, fit_fields
from tasks.continual.learners.modulated import modulated
from tasks.data.image_set import ImageSet
from tasks.data.pixels import unit
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.runs.stages import Kept, Stage, Stages
from tasks.transfer import drawing
from tasks.transfer.far import described, drawn, far_tasks, fingerprint
from tasks.transfer.training import How, Training, accuracy

Spec = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Modulations:
    """A network trained on one task and then frozen; each of five far tasks is a row of the same modulators.

    The headline is the mean test accuracy of the five.

    Args:
        modulators: by name ``{kind, source, sites, identity, dtype}``; all that is learned is a task's own.
        optimizer: of a task.
        tuning: optimizer of the network that is frozen.
        other: the set of images beside that of the config.
        hidden: units of the hidden layers.
        base_steps: of training the network on the first set.
        steps: of each task.
        delta: a random difference of so many times the size of the weights stands beside them, for a `Switch`; 0: none.
        batch: images of a step.

    """

    modulators: Mapping[str, Spec]
    optimizer: Spec
    tuning: Spec = field(default_factory=lambda: {"_target_": "torch.optim.Adam", "lr": 3e-3})
    other: str = "kmnist"
    hidden: Sequence[int] = (256, 256)
    base_steps: Steps = 900
    steps: Steps = 900
    delta: Weight = 0.0
    batch: Count = 128

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        target_of(self.optimizer, "optimizer")
        target_of(self.tuning, "tuning")

    def fingerprint(self, bench: Bench) -> str:
        """That of the network before its training, and of both sets of images."""
        return fingerprint(drawn(bench, self.tasks(bench), self.hidden), self.tasks(bench))

    def execute(self, bench: Bench) -> Result:
        """Train the network, then each task; test; goes on from the run's checkpoint."""
        tasks, net = self.tasks(bench), drawn(bench, self.tasks(bench), self.hidden)
        far = range(1, len(tasks))
        stages = [
            Stage(f"base: {tasks[0].name}", self.base_steps, lambda parts: self._base(net, bench)),
            Stage("model", 0, lambda parts: Kept(self._model(copy.deepcopy(net), bench))),
            *(Stage(f"task: {tasks[t].name}", self.steps, partial(self._task, t, bench)) for t in far),
        ]
        model = Stages(stages).run(bench)["model"].module.eval()
        accuracies = {tasks[t].name: accuracy(partial(model, task=t - 1), tasks[t]) for t in far}
        untouched = {tasks[t].name: accuracy(model.target, tasks[t]) for t in far}
        return Result(
            "accuracy",
            sum(accuracies.values()) / len(far),
            "higher",
            _costs(model, len(far)),
            {
                "modulations": {
                    "accuracies": accuracies,
                    "untouched": untouched,
                    "base": accuracy(model.target, tasks[0]),
                }
            },
            trained=f"{self.steps} steps a task",
            data=described(tasks),
        )

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Accuracy, task by task."""
        return drawing.modulations(runs, names)

    def tasks(self, bench: Bench) -> tuple[ImageSet, ...]:
        """The first task, and the far ones."""
        made: tuple[ImageSet, ...] = bench.once(partial(far_tasks, other=self.other), "tasks")
        return made

    def _base(self, net: nn.Module, bench: Bench) -> Training:
        how = How(self.tuning, self.base_steps, self.batch, bench.seeds["data"], ("base", 0))
        return Training(list(net.parameters()), net, self.tasks(bench)[0], how, net)

    def _task(self, number: int, bench: Bench, parts: Mapping[str, Any]) -> Training:
        """The training of a row; the first task, which the network knows, has none."""
        model: Modulated = parts["model"].module
        own = [p for part in model.named_modulators().values() for p in part.source.own(number - 1).values()]
        how = How(self.optimizer, self.steps, self.batch, bench.seeds["data"], ("task", number))
        return Training(own, partial(model.train(), task=number - 1), self.tasks(bench)[number], how)

    def _model(self, net: nn.Module, bench: Bench) -> Modulated:
        tasks = self.tasks(bench)
        if self.delta:
            net = random_delta(net, size=self.delta, seed=bench.seeds["target"])
        target, count = Target(net, unit(tasks[0].train_images[:2])), len(tasks) - 1
        model = modulated(target, self.modulators, tasks=count, seed=bench.seeds["source"])
        parts = [part for part in model.named_modulators().values() if part.reads == "task"]
        own = {id(p) for part in parts for t in range(count) for p in part.source.own(t).values()}
        if any(id(p) not in own for p in model.parameters()):
            raise UserError(
                "tasks that are learned one by one have all that is learned to themselves; these modulators share some; take "
                "sources like Table and Subspace"
            )
        return model


def _costs(model: Modulated, tasks: int) -> Costs:
    own = sum(p.numel() for m in model.named_modulators().values() for p in m.source.own(0).values())
    shared = sum(v.numel() for v in model.target.tensors().values())
    return Costs(own, model.bytes_per_task(0), shared, model.bytes_per_task(0) + 4 * shared / tasks)
