"""Far tasks at a bit per weight: what is kept of tuned networks when they share one difference, read off or learned."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from neuromod import (
    Generated,
    Modulated,
    Modulator,
    Switch,
    Table,
    Target,
    Threshold,
    give,
    random_delta,
    read_switch,
    shared_delta,
)
from neuromod.target.sites import Site
from tasks.config.build import target_of
from tasks.config.fields import Count, Rate, Steps, fit_fields
from tasks.data.image_set import ImageSet
from tasks.data.pixels import unit
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.runs.seeds import derive
from tasks.runs.stages import Kept, Stage, Stages
from tasks.transfer import drawing
from tasks.transfer.far import described, drawn, far_tasks, fingerprint
from tasks.transfer.training import How, Logits, Training, accuracy

Spec = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Switches:
    """A network trained on one task and tuned to five far ones; then each of the five as bits, by one of several arms.

    The headline is the mean test accuracy of the five. Their last layer and their biases are the task's own in every arm: those of
    the tuned network, trained on where the arm is trained.

    Args:
        other: the set of images beside that of the config.
        hidden: units of the hidden layers.
        base_steps: of training on the first set.
        tuned_steps: of tuning to each task.
        tuning: optimizer of both.
        arm: ``"tuned"``: the tuned networks, trained on; ``"mask"``: Piggyback's over the base; ``"switch"``.
        delta: of switches: ``"sum"``, ``"elect"`` or ``"ones"`` of the task vectors (`neuromod.shared_delta`), or ``"random"``,
            of the size of their sum.
        read: where switches start: ``"tall"``, ``"agree"``, ``"sign"``, ``"ternary"`` (`neuromod.read_switch`), or null: drawn.
        strength: of reading by ``"tall"`` or ``"ternary"`` (`neuromod.read_switch`).
        scale_alone: train the scales of the switches alone (BitDelta's scale distillation learns them too).
        steps: of training the arm, for each task; 0: it is read off.
        optimizer: of the arm.
        own_lr: rate of the last layer and the biases.
        batch: images of a step.

    """

    optimizer: Spec
    tuning: Spec = field(default_factory=lambda: {"_target_": "torch.optim.Adam", "lr": 1e-3})
    other: str = "kmnist"
    hidden: Sequence[int] = (256, 256)
    base_steps: Steps = 900
    tuned_steps: Count = 900
    arm: Literal["tuned", "mask", "switch"] = "switch"
    delta: Literal["sum", "elect", "ones", "random"] = "sum"
    read: Literal["tall", "agree", "sign", "ternary"] | None = "tall"
    strength: Rate = 0.4
    scale_alone: bool = False
    steps: Steps = 600
    own_lr: Rate = 1e-3
    batch: Count = 128

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        target_of(self.optimizer, "optimizer")
        target_of(self.tuning, "tuning")
        if self.arm != "switch" and (self.delta, self.read, self.strength, self.scale_alone) != (
            "sum",
            "tall",
            type(self).strength,
            False,
        ):
            raise UserError(
                f"delta, read, strength and scale_alone are of arm=switch; got arm={self.arm}; drop them, or pass arm=switch"
            )
        if self.read not in ("tall", "ternary") and self.strength != type(self).strength:
            raise UserError(f"strength is of read=tall and read=ternary; got read={self.read}; drop it")
        if self.arm == "switch" and self.read is None and not self.steps:
            raise UserError(
                "a switch that is drawn is trained; got read=null and steps=0; pass steps, or a rule to read by"
            )

    def fingerprint(self, bench: Bench) -> str:
        """That of the network before its training, and of both sets of images."""
        return fingerprint(self._drawn(bench), self._tasks(bench))

    def execute(self, bench: Bench) -> Result:
        """Train, tune, learn or read off, test; goes on from the run's checkpoint."""
        tasks = self._tasks(bench)
        carried = _Carried(self, bench, tasks)
        parts = Stages(carried.stages()).run(bench)
        model = parts["arm"].module.eval() if "arm" in parts else None
        accuracies = {tasks[t].name: accuracy(carried.logits(t, parts), tasks[t]) for t in carried.far}
        tuned = {tasks[t].name: accuracy(carried.nets[t], tasks[t]) for t in carried.far}
        found = {
            "base": accuracy(carried.nets[0], tasks[0]),
            "accuracies": accuracies,
            "tuned": tuned,
            "tuned_mean": sum(tuned.values()) / len(tuned),
            "bits_per_weight": 32.0 if model is None else _bits(model),
        }
        return Result(
            "accuracy",
            sum(accuracies.values()) / len(accuracies),
            "higher",
            _costs(model, carried),
            {"switches": found},
            role="bracket" if self.arm == "tuned" else "modulator",
            trained=f"{self.steps} steps a task" if self.steps else "read off",
            data=described(tasks),
        )

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Accuracy, task by task."""
        return drawing.switches(runs, names)

    def _tasks(self, bench: Bench) -> tuple[ImageSet, ...]:
        made: tuple[ImageSet, ...] = bench.once(partial(far_tasks, other=self.other), "tasks")
        return made

    def _drawn(self, bench: Bench) -> nn.Module:
        return drawn(bench, self._tasks(bench), self.hidden)


class _Carried:
    """The base, the tuned networks, and what the arm makes of them."""

    def __init__(self, options: Switches, bench: Bench, tasks: Sequence[ImageSet]) -> None:
        self.options, self.bench, self.tasks = options, bench, tasks
        self.far = range(1, len(tasks))
        self.nets = [options._drawn(bench) for _ in tasks]

    def stages(self) -> list[Stage]:
        """The base, each tuned from it, what the arm makes of these, its training for each task."""
        options, names = self.options, [task.name for task in self.tasks]
        whole = options.arm == "tuned"
        return [
            Stage(f"base: {names[0]}", options.base_steps, lambda parts: self._whole("base", 0)),
            *(Stage(f"tuned: {names[t]}", options.tuned_steps, partial(self._tuned, t)) for t in self.far),
            *([] if whole else [Stage("arm", 0, lambda parts: Kept(self._arm()))]),
            *(Stage(f"arm: {names[t]}", options.steps, partial(self._part, t)) for t in self.far),
        ]

    def logits(self, task: int, parts: Mapping[str, Any]) -> Logits:
        """A task as the arm leaves it."""
        logits: Logits = parts[f"arm: {self.tasks[task].name}"].logits
        return logits

    def _whole(self, stage: str, task: int) -> Training:
        """The training of a whole network."""
        steps = self.options.tuned_steps if task else self.options.base_steps
        how = self._how(self.options.tuning, steps, stage, task)
        net = self.nets[task]
        return Training(list(net.parameters()), net, self.tasks[task], how, net)

    def _tuned(self, task: int, parts: Mapping[str, Any]) -> Training:
        """That of a copy of the base."""
        self.nets[task].load_state_dict(self.nets[0].state_dict())
        return self._whole("tuned", task)

    def _part(self, task: int, parts: Mapping[str, Any]) -> Training:
        """The training of the arm's part of a task."""
        options = self.options
        how = self._how(options.optimizer, options.steps, "arm", task)
        if options.arm == "tuned":
            net = copy.deepcopy(self.nets[task])
            return Training(list(net.parameters()), net, self.tasks[task], how, net)
        model: Modulated = parts["arm"].module
        named = model.named_modulators()
        own = list(named["generated"].source.own(task - 1).values())
        rest = [p for n, m in named.items() if n != "generated" for p in m.source.own(task - 1).items()]
        bits = [value for key, value in rest if not options.scale_alone or key.endswith("/scale")]
        groups: list[dict[str, Any]] = [{"params": bits}, {"params": own, "lr": options.own_lr}]
        return Training(groups, partial(model, task=task - 1), self.tasks[task], how)

    def _how(self, optimizer: Spec, steps: int, stage: str, task: int) -> How:
        return How(optimizer, steps, self.options.batch, self.bench.seeds["data"], (stage, task))

    def _arm(self) -> Modulated:
        options, tuned = self.options, [self.nets[t] for t in self.far]
        base = copy.deepcopy(self.nets[0])
        switched = options.arm == "switch"
        if switched:
            random = options.delta == "random"
            net = shared_delta(base, tuned, merge="sum" if options.delta == "random" else options.delta)
            base = random_delta(base, like=net, seed=self.bench.seeds["target"]) if random else net
        target = Target(base, unit(self.tasks[0].train_images[:2]))
        *wide, last = target.weights("*")
        piggyback = Threshold(5e-3, strict=True, constant=1e-2)
        form = options.read if options.read in ("sign", "ternary") else "mask"
        kind = Switch(form) if switched else piggyback
        seed = derive(self.bench.seeds["target"], "switches")
        bits = Modulator(kind, Table(len(self.far)), wide, seed=seed)
        biases = [n for n, p in target.pristine.named_parameters() if p.ndim == 1]
        own = Modulator(Generated(), Table(len(self.far)), (last, *target.weights(*biases)), identity=True)
        model = Modulated(target, bits, own)
        for row, net in enumerate(tuned):
            _own(own, row, net)
            if switched and options.read is not None:
                read_switch(bits, row, net, rule=options.read, strength=options.strength)
        return model


def _bits(model: Modulated) -> float:
    """Bits per weight and task, as sealed, of the weights that have them."""
    modulator = next(iter(model.named_modulators().values()))
    weights = sum(math.prod(site.shape) for site in modulator.sites)
    return 8 * sum(v.numel() * v.element_size() for v in modulator.stored(0).values()) / weights


def _costs(model: Modulated | None, carried: _Carried) -> Costs:
    """What a task keeps: its bits, its last layer and its biases; a whole network where it has no bits."""
    if model is None:
        whole = sum(p.numel() for p in carried.nets[0].parameters())
        return Costs(whole, 4 * whole, 0, float(4 * whole))
    frozen = sum(v.numel() for v in model.target.tensors().values())
    own = sum(v.numel() for m in model.named_modulators().values() for v in m.source.own(0).values())
    return Costs(own, model.bytes_per_task(0), frozen, model.bytes_per_task(0) + 4 * frozen / len(carried.far))


def _own(modulator: Modulator, row: int, tuned: nn.Module) -> None:
    """The last layer and the biases of a tuned network, as a row."""
    values = dict(tuned.named_parameters())

    def of(site: Site) -> Tensor:
        return values[site.name].detach()

    for site in modulator.sites:
        give(modulator, row, {"weight": of(site)}, site)
