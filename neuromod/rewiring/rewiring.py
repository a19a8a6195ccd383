"""`Rewiring`: the wires of one row of a modulator, moved by a rule while the row trains."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, flag, instance, shown
from neuromod.errors import RefusedError, nearest, refusing
from neuromod.modulated import Modulated
from neuromod.rewiring.counts import wire_counts
from neuromod.rewiring.hear import Hearing
from neuromod.rewiring.rule import Rule, drop_wires, grow_wires, how_many, moved_count, select
from neuromod.rewiring.scores import Evidence
from neuromod.rewiring.wiring import Wiring
from neuromod.seeds import generator
from neuromod.target.sites import Site

Objective = Callable[[], Tensor]
"""A loss of the model on some batch, with its graph."""


class Rewiring(Wiring):
    """Holds the wires of a row to their number, and moves them by a rule; the network that runs has no others.

    A wire is a place of a weight where the row has a number: a score of a mask, the value of a `Wires` or a `Generated`. With
    ``Generated`` and ``identity=True`` this trains a sparse *copy* of the target's weights; the target itself never moves, here or
    elsewhere. `step` stands in the place of ``optimizer.step()``.

    >>> from torch import nn
    >>> from neuromod import Generated, Modulated, Modulator, Table, Target
    >>> from neuromod.rewiring import rule_of
    >>> net = nn.Linear(8, 4)
    >>> target = Target(net, torch.ones(2, 8))
    >>> model = Modulated(target, Modulator(Generated(), Table(None), target.weights("*"), identity=True))
    >>> wiring = Rewiring(model, "generated", rule_of("rigl"), steps=100, density=0.25)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> model(torch.ones(2, 8)).sum().backward()
    >>> wiring.step(optimizer)
    >>> wiring.counts()
    {'weight': 8}

    Args:
        model: in which the row is live.
        name: of the modulator in it; its source is a `Table`.
        rule: which wires go, which come, how many and when.
        steps: of the training, over which the rule's schedule runs.
        density: the share (0, 1] of all places that have a wire at the end.
        scope: how they are spread over the sites: ``"uniform"``, ``"er"``, ``"erk"``, or densities by site (`counts.wire_counts`).
        task: whose row it is; None for a table of one row.
        sites: names of the sites that are rewired; None: all of the modulator. The others stay dense.
        wires: by site, the wires to begin with, 0 and 1; None: as the rule's ``cut`` says.
        rescale: multiply what the wires begin with by ``sqrt(places / wires)``, so that the layers keep the scale of their outputs.
        seed: of all its draws.

    """

    _hearing: Hearing | None = None

    def __init__(
        self,
        model: Modulated,
        name: str,
        rule: Rule,
        *,
        steps: int,
        density: float = 0.1,
        scope: str | Mapping[str, float] = "erk",
        task: int | None = None,
        sites: Sequence[str] | None = None,
        wires: Mapping[str, Tensor] | None = None,
        rescale: bool = False,
        seed: int = 0,
    ) -> None:  # reason: what wires are of, and how many, where and which they are
        known = instance(model, Modulated, "model").named_modulators()
        if not isinstance(name, str) or name not in known:
            raise RefusedError(
                f"a rule is for one modulator of the model; got {shown(name)}; nearest: {nearest(str(name), known)}"
            )
        self.model, self.modulator, self.kind = model, known[name], known[name].kind
        self.rule = instance(rule, Rule, "rule")
        self.steps, self.seed, self.task = count(steps, "steps", least=1), count(seed, "seed"), task
        self.sites = self._chosen(sites)
        self.values = self._row(self.sites)
        self.target_counts = wire_counts(self.sites, density, scope)
        self.done, self._masks = 0, {}
        self.latents = {s.name: self.values[s.name].detach().clone() for s in self.sites if rule.born == "latent"}
        self.wires = self._given(wires) if wires is not None else {s.name: self._begin(s) for s in self.sites}
        self.starts = {s.name: self.values[s.name].detach().clone() for s in self.sites}
        self.births = {name: torch.zeros_like(w, dtype=torch.int32) for name, w in self.wires.items()}
        self._refuse_room(self.counts())
        self._refuse_room(self.target_counts)
        if flag(rescale, "rescale") and not self.kind.replaces:
            raise RefusedError(
                f"weights themselves are rescaled; {self.modulator.name} keeps the target's; drop rescale=True"
            )
        self._hold_all(rescale=rescale)
        self._ready()

    # ---- training ----------------------------------------------------------------------------------------------------

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """What ``optimizer.step()`` is without wires, behind the backward pass; updates the wires where the rule says so."""
        self.before_step(optimizer)
        optimizer.step()
        self.after_step(optimizer)

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Between the backward pass and the optimiser's step: the gradient of places without a wire is taken out."""
        due = self.rule.due(self.done, self.steps)
        self._refuse_optimizer(optimizer)
        for name, value in self.values.items():
            gradient = self._gradient(name)
            if due and "gradient" in self._needs():
                self._seen[name] = gradient if self.rule.pauses else gradient.clone()
            if due and self.rule.pauses:
                value.grad = None
            elif not self.rule.dense:
                gradient.mul_(self._mask(name))
            if name in self.latents:
                value.copy_(self.latents[name])

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Behind the optimiser's step: the rule's update where it is due, and no number without a wire."""
        due = self.rule.due(self.done, self.steps)
        for site in self.sites:
            name, value = site.name, self.values[site.name]
            if name in self.latents:
                self.latents[name].copy_(value)
            if due:
                self._update(site, optimizer)
            value.copy_(self.kind.hold(site, value, self._mask(name)))
        self._seen.clear()
        self.done += 1
        self._listen()

    def _update(self, site: Site, optimizer: torch.optim.Optimizer) -> None:
        name, value, before = site.name, self.values[site.name], self.wires[site.name]
        slots = {k: v for k, v in optimizer.state[value].items() if isinstance(v, Tensor) and v.shape == value.shape}
        found = {"gradient": self._seen.get(name), "slots": slots}
        there = how_many(before)
        # A cut of all layers together leaves each what it leaves it, and an update keeps that.
        goal = there if self.rule.cut == "once" else self.target_counts[name]
        wanted = self.rule.wanted(value.numel(), goal, self._falling(), self.steps)
        # Of a density that falls, the share is that of the wires which it leaves.
        coming = moved_count(self.rule.share(self.done, self.steps), min(there, wanted))
        judged = self.rule.dropping.judge(self._evidence(site, before, **found))
        after = drop_wires(before, judged, coming + max(there - wanted, 0))
        if self.rule.growing is not None and coming:
            # Judged by what is left: a wire that goes is no reason for itself.
            after = grow_wires(after, self.rule.growing.judge(self._evidence(site, after, **found)), coming)
        self._refuse_lost(name, how_many(after), wanted)
        self._rewire(site, after, slots)

    def _rewire(self, site: Site, after: Tensor, slots: Mapping[str, Tensor]) -> None:
        name, value, before = site.name, self.values[site.name], self.wires[site.name]
        new = after & ~before
        if self.rule.born == "zero":
            value.mul_(self._mask(name))
        elif self.rule.born == "start":
            value[new] = self.starts[name][new]
        if self.rule.born != "latent":
            # What the optimiser remembers of a place is of another wire; where its slots are dense, of this one until it grew.
            lasting = (~new if self.rule.dense else before & after).to(value.dtype)
            for slot in slots.values():
                slot.mul_(lasting)
        self.births[name].masked_fill_(new, self.done)
        self.wires[name] = after

    # ---- cutting -----------------------------------------------------------------------------------------------------

    def prune(self, objective: Objective | None = None) -> None:
        """Cut the wires once, from all that are there to the density, by the rule's score ``drop`` (rules with ``cut="once"``).

        Of all layers together, or of each. Refused: a layer that would be left without a wire.

        Args:
            objective: a loss on some batch, for scores that read a gradient; SynFlow's is the sum of the outputs for an input of ones.

        """
        if self.rule.cut != "once":
            raise RefusedError(f"prune() is of rules that cut once; got cut={self.rule.cut!r}; set cut='once'")
        sizes = {name: int(w.sum()) for name, w in self.wires.items()}
        for number in range(1, self.rule.rounds + 1):
            share = number / self.rule.rounds
            # Every round leaves the same share of what it found (Tanaka et al. 2020, algorithm 1).
            left = {n: round(size * (self.target_counts[n] / size) ** share) for n, size in sizes.items()}
            total = round(sum(sizes.values()) * (sum(self.target_counts.values()) / sum(sizes.values())) ** share)
            scores = self._judged(objective)
            self._keep(scores, total if self.rule.together else left)

    def _keep(self, scores: Mapping[str, Tensor], left: int | Mapping[str, int]) -> None:
        there = {name: wires.flatten().nonzero().squeeze(1) for name, wires in self.wires.items()}
        found = {name: scores[name].flatten()[place] for name, place in there.items()}
        if isinstance(left, int):
            chosen = select(torch.cat(list(found.values())), left)
            kept = dict(zip(found, chosen.split([len(f) for f in found.values()]), strict=True))
        else:
            kept = {name: select(score, left[name]) for name, score in found.items()}
        empty = [name for name, keep in kept.items() if not bool(keep.any())]
        if empty:
            rule = "a layer keeps at least one wire"
            raise RefusedError(
                f"{rule}; this cut leaves {empty[0]!r} none; raise the density, or cut each layer (together=False)"
            )
        for name, keep in kept.items():
            after = torch.zeros_like(self.wires[name]).flatten()
            after[there[name][keep]] = True
            self.wires[name] = after.view_as(self.wires[name])
        self._hold_all()

    def cut(self, shares: float | Mapping[str, float]) -> None:
        """Drop ``round(p k)`` of the k wires of each site by the score ``drop``, as a round of iterative pruning does.

        Args:
            shares: p in [0, 1), one for all or by the name of the site (Frankle and Carbin 2019 cut half as much of the last layer).

        """
        there, each = self.counts(), self._shares(shares)
        self._keep(self._judged(None), {name: n - round(each[name] * n) for name, n in there.items()})

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _ready(self) -> None:
        self._seen: dict[str, Tensor] = {}
        if self._hearing is None and "activity" in self._needs():
            self._hearing = Hearing(self.model, self.sites)
        self._listen()

    def _listen(self) -> None:
        if self._hearing is not None:
            self._hearing.listen(self.rule.due(self.done, self.steps))

    def _needs(self) -> frozenset[str]:
        growing = self.rule.growing.needs if self.rule.growing else frozenset()
        return growing | (self.rule.dropping.needs if self.rule.moves else frozenset())

    def _gradient(self, name: str) -> Tensor:
        gradient = self.values[name].grad
        if gradient is None:
            raise RefusedError(
                f"a rule goes by gradients; {name!r} has none; call backward() first, or leave the site out"
            )
        return gradient

    def _evidence(self, site: Site, wires: Tensor, **found: Any) -> Evidence:
        name = site.name
        values = self.latents.get(name, self.values[name]).detach()
        rng = generator(self.seed, "rewiring", self.done, self.task, name)
        heard = self._hearing.heard(name) if self._hearing is not None else None
        return Evidence(self.kind, values, wires, rng, activity=heard, **found)

    def _judged(self, objective: Objective | None) -> dict[str, Tensor]:
        """The score ``drop`` of every site, with the gradients that it reads."""
        score = self.rule.dropping
        # Those of the sites beside the rewired ones too: a network of positive numbers is one in all its layers.
        whole = self._row(self.modulator.sites) if score.positive else {}
        signs = {name: value.detach().sign() for name, value in whole.items()}
        with torch.no_grad():
            for name in signs:
                whole[name].abs_()
        try:
            found = self._derivatives(objective, score.needs)
            return {
                site.name: score.judge(self._evidence(site, self.wires[site.name], **found.get(site.name, {})))
                for site in self.sites
            }
        finally:
            with torch.no_grad():
                for name, sign in signs.items():
                    whole[name].mul_(sign)

    def _derivatives(self, objective: Objective | None, needs: frozenset[str]) -> dict[str, dict[str, Tensor]]:
        if not needs & {"gradient", "curvature"}:
            return {}
        if objective is None:
            raise RefusedError(
                f"the score {self.rule.drop!r} reads gradients; got no objective; pass a loss on a batch"
            )
        parameters, curved = list(self.values.values()), "curvature" in needs
        with refusing("an objective is a function without arguments that gives one loss with its graph", "correct it"):
            gradients = torch.autograd.grad(objective(), parameters, create_graph=curved, allow_unused=True)
        lacking = [name for name, g in zip(self.values, gradients, strict=True) if g is None]
        if lacking:
            raise RefusedError(
                f"a rule goes by gradients; {lacking[0]!r} has none in this objective; leave the site out"
            )
        found = {name: {"gradient": g.detach()} for name, g in zip(self.values, gradients, strict=True)}
        if curved:
            inner = torch.stack([(g * g.detach()).sum() for g in gradients]).sum()
            with refusing(f"the score {self.rule.drop!r} reads a curvature; this objective has none", "take another"):
                curvatures = torch.autograd.grad(inner, parameters)
            for name, h in zip(self.values, curvatures, strict=True):
                found[name]["curvature"] = h
        return found
