"""Far tasks by any kind of modulation of one trained network: what each byte of a task buys."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

import neuromod
from neuromod import Target, random_delta
from tasks.config.build import target_of
from tasks.config.fields import Count, Steps, Weight, fit_fields
from tasks.continual.learners.modulated import modulated
from tasks.data.pixels import unit
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.transfer import drawing
from tasks.transfer.course import Course, Logits, Stage, accuracy
from tasks.transfer.far import FarTask, described, drawn, far_tasks, fingerprint

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
        return fingerprint(self.drawn(bench), self.tasks(bench))

    def execute(self, bench: Bench) -> Result:
        """Train the network, then each task; test; goes on from the run's checkpoint."""
        tasks, frozen = self.tasks(bench), _Frozen(self, bench)
        far = range(1, len(tasks))
        stages = [
            Stage("base", 0, self.base_steps, self.tuning, frozen.base),
            *(Stage("task", t, self.steps, self.optimizer, partial(frozen.task, t - 1)) for t in far),
        ]
        Course(stages, tasks, bench, self.batch).run({"frozen": frozen})
        model = frozen.model.eval()
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

    def tasks(self, bench: Bench) -> tuple[FarTask, ...]:
        """The first task, and the far ones."""
        made: tuple[FarTask, ...] = bench.once(partial(far_tasks, other=self.other), "tasks")
        return made

    def drawn(self, bench: Bench) -> nn.Module:
        """The network before its training."""
        return drawn(bench, self.tasks(bench), self.hidden)


class _Frozen:
    """The network, and the model over it, which is made once the network is trained."""

    def __init__(self, options: Modulations, bench: Bench) -> None:
        self.options, self.bench = options, bench
        self.net = options.drawn(bench)
        self.made: neuromod.Modulated | None = None

    def base(self, first: bool) -> tuple[Sequence[Any], Logits]:
        """Train the network."""
        return list(self.net.parameters()), self.net

    def task(self, row: int, first: bool) -> tuple[Sequence[Any], Logits]:
        """Train a row of the modulators."""
        parts = self.model.named_modulators().values()
        return [p for part in parts for p in part.source.own(row).values()], partial(self.model.train(), task=row)

    @property
    def model(self) -> neuromod.Modulated:
        """The modulated network."""
        if self.made is None:
            self.made = self._make()
        return self.made

    def _make(self) -> neuromod.Modulated:
        options, seeds = self.options, self.bench.seeds
        net, tasks = copy.deepcopy(self.net), options.tasks(self.bench)
        if options.delta:
            net = random_delta(net, size=options.delta, seed=seeds["target"])
        target, count = Target(net, unit(tasks[0].train_images[:2])), len(tasks) - 1
        model = modulated(target, options.modulators, tasks=count, seed=seeds["source"])
        parts = model.named_modulators().values()
        own = {
            id(p) for part in parts if part.reads == "task" for t in range(count) for p in part.source.own(t).values()
        }
        if any(id(p) not in own for p in model.parameters()):
            raise UserError(
                "tasks that are learned one by one have all that is learned to themselves; these modulators share some; take "
                "sources like Table and Subspace"
            )
        return model

    def state_dict(self) -> dict[str, Any]:
        """The network's weights, and the model's, once it is made."""
        return {"net": self.net.state_dict(), "model": None if self.made is None else self.made.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self.net.load_state_dict(state["net"])
        if state["model"] is not None:
            self.model.load_state_dict(state["model"])


def _costs(model: neuromod.Modulated, tasks: int) -> Costs:
    own = sum(p.numel() for m in model.named_modulators().values() for p in m.source.own(0).values())
    shared = sum(v.numel() for v in model.target.tensors().values())
    return Costs(own, model.bytes_per_task(0), shared, model.bytes_per_task(0) + 4 * shared / tasks)
