"""A modulated network whose wires a rule moves while it trains: a sparse copy of the weights, or growth over a frozen network."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from neuromod import Target
from neuromod.rewiring import Rewiring, rule_of
from tasks.continual.learners import Modulated
from tasks.continual.learners.base import sample
from tasks.continual.streams import Stream
from tasks.errors import UserError
from tasks.experiment import Bench, Costs


class Rewired(Modulated):
    """`Modulated`, with the wires of one of its modulators under a rule; of a table with a row per task, each row's own wires.

    The rule's schedule runs over the steps per task of the config.
    Where the modulator is `Generated` with ``identity: true`` this trains a copy of the target's weights, which stay as they are.

    Args:
        modulators: by name ``{kind, source, sites, identity}``.
        rule: ``name``, one of `neuromod.rewiring.RULES`, and beside it options that differ from it (`neuromod.rewiring.Rule`).
        wired: name of the modulator.
        density: the share of all places that have a wire.
        scope: ``uniform``, ``er``, ``erk``, or densities by site.
        rescale: multiply the weights at the start by the square root of places over wires.
        shuffled: put the wires that were cut once at random places of their layer: the control.
        regulariser: what holds earlier tasks (`neuromod.OutputRegulariser`).
        compile: compile the call of one row.
        vmap: a row of weights per sample in one call.

    """

    def __init__(
        self,
        target: Target,
        stream: Stream,
        bench: Bench,
        *,
        modulators: Mapping[str, Mapping[str, Any]],
        rule: Mapping[str, Any],
        wired: str,
        density: float = 0.1,
        scope: str | Mapping[str, float] = "erk",
        rescale: bool = False,
        shuffled: bool = False,
        regulariser: Mapping[str, Any] | None = None,
        compile: bool = False,
        vmap: bool = False,
    ) -> None:  # reason: options of a config
        options: dict[str, Any] = {"regulariser": regulariser, "compile": compile, "vmap": vmap}
        super().__init__(target, stream, bench, modulators=modulators, **options)
        self.to(bench.device)
        made = rule_of(**{"name": "static", **rule})
        reads = self.model.named_modulators()[self._known(wired)].reads
        tasks: list[int | None] = list(range(len(stream))) if reads == "task" else [None]
        steps, seed = max(int(bench.config["run"]["steps"]), 1), bench.seeds["source"]
        form: dict[str, Any] = {"density": density, "scope": scope, "rescale": rescale, "seed": seed, "steps": steps}
        self.wirings = {task: Rewiring(self.model, wired, made, task=task, **form) for task in tasks}
        self._trained: int | None = None
        # A copy of all weights is no modulation: it is what modulators are compared with.
        self.role = "modulator" if reads == "task" else "bracket"
        if shuffled and made.cut != "once":
            raise UserError(f"wires that were cut once can be shuffled; got rule.cut={made.cut!r}; drop shuffled=true")
        for task, wiring in self.wirings.items() if made.cut == "once" else ():
            wiring.prune(partial(self._objective, stream, task or 0, made.dropping.positive))
            if shuffled:
                wiring.shuffle(seed)

    def forward(self, x: Tensor, task: int | Tensor, condition: int | Tensor | None = None) -> Tensor:
        """Logits (B, outputs), as of `Modulated`; in training remembers whose row the step to come will move.

        Args:
            condition: an integer label in the place of the task's own; None: the number of the task.

        """
        if self.training:
            if not isinstance(task, int):
                raise UserError(
                    "a rule moves the wires of one task at a time; got a batch that mixes tasks; pass run=sequence"
                )
            self._trained = task
        return super().forward(x, task, condition)

    def before_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """The regulariser's gradient, and none where there is no wire."""
        super().before_step(step, optimizer)
        self._wiring().before_step(optimizer)

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """The rule's update where it is due."""
        self._wiring().after_step(optimizer)

    def costs(self) -> Costs:
        """As of `Modulated`; of a sparse copy of the weights its wires are counted, 4 bytes each and 4 for where it is."""
        costs = super().costs()
        if None not in self.wirings:
            return costs
        wiring = self.wirings[None]
        places = sum(value.numel() for value in wiring.values.values())
        return Costs(0, 0, costs.parameters_shared - places + 2 * sum(wiring.counts().values()))

    def get_extra_state(self) -> dict[str, Any]:
        """The wires, beside the parameters that the state of a module holds."""
        return {str(task): wiring.state_dict() for task, wiring in self.wirings.items()}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `get_extra_state` gave."""
        for task, wiring in self.wirings.items():
            wiring.load_state_dict(state[str(task)])

    def _known(self, wired: str) -> str:
        known = self.model.named_modulators()
        if wired not in known:
            raise UserError(f"wired names a modulator by its kind; got {wired!r}; it has {', '.join(known)}")
        return wired

    def _wiring(self) -> Rewiring:
        return self.wirings[None if None in self.wirings else self._trained]

    def _objective(self, stream: Stream, task: int, positive: bool) -> Tensor:
        """The loss of a first batch of the task, or, of a network of positive numbers, the sum of its outputs for ones."""
        (x, y) = sample(stream[task], batches=1)[0], stream[task].train.labels[:128]
        if positive:
            total: Tensor = super().forward(torch.ones_like(x[:1]), task).sum()
            return total
        return cross_entropy(super().forward(x, task), y)
