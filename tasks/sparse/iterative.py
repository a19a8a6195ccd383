"""Iterative magnitude pruning: train, cut a share of the smallest weights, rewind, and again (Frankle and Carbin 2019)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from neuromod import Generated, Modulator, Table
from neuromod import Modulated as Model
from neuromod.rewiring import Rewiring, rule_of
from neuromod.seeds import derive
from tasks.config.fields import Count, Range, Steps
from tasks.continual.family import Continual
from tasks.continual.learners.base import accuracy
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.report import figures
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.runs.loop import Number, loop

Arm = Literal["ticket", "reinitialised", "shuffled", "random"]
Share = Annotated[float, Range(least=0, below=1)]


@dataclass(frozen=True, kw_only=True)
class IterativePruning(Continual):
    """Lottery tickets: a copy of the target's weights is trained, cut and set back, ``rounds`` times, then trained once more.

    The target's weights are the start, theta_0. A round trains ``steps`` steps, drops ``round(p k)`` of the k smallest weights of each
    layer, and sets those that are left back to what they were after ``rewind`` steps of the first round. ``early`` measures the accuracy of
    each round after so many steps, for tickets show in speed. The headline is the accuracy of the last round.

    Args:
        rounds: how often weights are cut.
        cut: p of all layers but the last; the last loses half as much.
        rewind: k, the steps of the first round to whose weights the survivors go back; 0: their start.
        early: after how many steps of a round accuracy is measured as well.
        arm: ``ticket``, or a control, which trains the last round otherwise: ``reinitialised`` (the same wires over another start),
            ``shuffled`` (each layer's wires at random places, the same start) or ``random`` (as many wires, spread uniformly).

    """

    rounds: Count = 14
    cut: Share = 0.2
    rewind: Steps = 0
    early: Count = 50
    arm: Arm = "ticket"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rewind", "early"):
            if getattr(self, name) > self.steps:
                rule = f"{name} is a step of a round"
                raise UserError(f"{rule}; got {name}={getattr(self, name)} of {self.steps} steps; lower it")

    def execute(self, bench: Bench) -> Result:
        """All rounds, each resumable; then what each left and reached."""
        stream = self.tasks(bench)
        if len(stream) != 1:
            raise UserError(f"weights are pruned for one task; got {len(stream)}; pass stream.tasks=1")
        pruned = _Pruned(self, bench)
        optimiser = self.optimiser(pruned.groups)

        def step(number: int) -> Mapping[str, Number]:
            done = number % self.steps
            loss = pruned.loss(done)
            optimiser.begin().zero_grad(set_to_none=True)
            loss.backward()
            pruned.wiring.before_step(optimiser.begin())
            optimiser.step()
            pruned.wiring.after_step(optimiser.begin())
            pruned.after_step(number)
            return {"loss": loss.detach()}

        def after(number: int) -> None:
            optimiser.end()
            pruned.after_round(number)

        loop(
            step,
            {"pruned": pruned, "optimiser": optimiser},
            bench,
            steps=self.steps,
            rounds=self.rounds + 1,
            after=after,
        )
        found = pruned.found
        wires = sum(pruned.wiring.counts().values())
        costs = Costs(0, 0, 2 * wires)
        return Result(
            "accuracy",
            found["accuracy"][-1],
            "higher",
            costs,
            {"iterative": found},
            "bracket",
            self.arm,
            stream.describe(),
        )

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Accuracy round by round, after all and after a few steps of each."""
        shown = [(run, name) for run, name in zip(runs, names, strict=True) if run.measure("iterative")]
        looks, panels = looks_of([run for run, _ in shown]), []
        for key, title in (("accuracy", "after all steps of a round"), ("early", "after a few steps of a round")):
            found = [(name, run.measure("iterative")[key]) for run, name in shown]
            if lines := [(name, [float(i) for i in range(len(values))], values) for name, values in found if values]:
                label = f"Accuracy {title}"
                svg = figures.progress(f"iterative-{key}", label, lines, looks, ("round", "accuracy"))
                panels.append(Panel(label, "", svg))
        caption = "Each round cuts the smallest weights and sets the others back; the last round of a control trains other wires."
        return [Section("iterative", "Lottery tickets", caption, tuple(panels))] if panels else []


class _Pruned:
    """The copy of the weights under its rule, what it goes back to, and what was measured."""

    def __init__(self, options: IterativePruning, bench: Bench) -> None:
        self.options, self.bench = options, bench
        target, seed = options.network(bench), bench.seeds["source"]
        sites = target.weights("*")
        others = [name for name, _ in target.pristine.named_parameters() if name not in {site.name for site in sites}]
        parts = [Modulator(Generated(), Table(None), sites, seed=seed, identity=True)]
        if others:
            dense = target.weights(*others)
            parts.append(Modulator(Generated(), Table(None), dense, seed=derive(seed, "dense"), identity=True))
        self.model = Model(target, *parts).to(bench.device)
        self.wiring = self._wiring(1.0, seed)
        self.sampler, self.task = options.sampler(bench), options.tasks(bench)[0]
        self.places = sum(self.wiring.counts().values())
        self.back = self._numbers()
        self.found: dict[str, list[float]] = {"alive": [], "accuracy": [], "early": []}

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters())}]

    def loss(self, done: int) -> Tensor:
        x, y, _ = self.sampler.draw(done, [0])
        return cross_entropy(self.model(x), y)

    def after_step(self, number: int) -> None:
        round_, done = divmod(number, self.options.steps)
        if round_ == 0 and done + 1 == self.options.rewind:
            self.back = self._numbers()
        if done + 1 == self.options.early:
            self.found["early"].append(self._accuracy())

    def after_round(self, number: int) -> None:
        self.found["alive"].append(sum(self.wiring.counts().values()) / self.places)
        self.found["accuracy"].append(self._accuracy())
        if number == self.options.rounds:
            return
        *others, last = self.wiring.counts()
        cut = self.options.cut
        self.wiring.cut({**dict.fromkeys(others, cut), last: cut / 2})
        self._set_back()
        if number + 1 == self.options.rounds:
            self._take_arm()

    def _take_arm(self) -> None:
        """Make of the ticket the control that the last round trains."""
        seed, arm = derive(self.bench.seeds["source"], "arm"), self.options.arm
        if arm == "reinitialised":
            seeds = {**self.bench.seeds, "target": derive(self.bench.seeds["target"], "again")}
            other = self.options.network(replace(self.bench, seeds=seeds, _made={})).tensors()
            self.wiring.rewind({site.name: other[site.name].to(self.bench.device) for site in self.wiring.sites})
        elif arm == "shuffled":
            self.wiring.shuffle(seed)
            self.wiring.rewind(self._back_of_wires())
        elif arm == "random":
            density = sum(self.wiring.counts().values()) / self.places
            self._copy_back()
            self.wiring = self._wiring(density, seed)

    def _wiring(self, density: float, seed: int) -> Rewiring:
        form: dict[str, Any] = {"density": density, "scope": "uniform", "seed": seed}
        return Rewiring(self.model, "generated", rule_of("static"), steps=max(self.options.steps, 1), **form)

    def _copy_back(self) -> None:
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                value.copy_(self.back[name])

    def _set_back(self) -> None:
        self._copy_back()
        self.wiring.rewind(self._back_of_wires())

    def _back_of_wires(self) -> dict[str, Tensor]:
        names = {id(p): name for name, p in self.model.named_parameters()}
        return {site: self.back[names[id(value)]] for site, value in self.wiring.values.items()}

    def _numbers(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.named_parameters()}

    def _accuracy(self) -> float:
        return accuracy(lambda x, _: self.model(x), self.task, 0, self.options.evaluation.batch)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "wiring": self.wiring.state_dict(),
            "back": self.back,
            "found": self.found,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.wiring.load_state_dict(state["wiring"])
        self.back = {name: value.to(self.bench.device) for name, value in state["back"].items()}
        self.found = {name: list(values) for name, values in state["found"].items()}
