"""`Rule`: which wires go, which come, how many and when; the methods of the literature are its options."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from neuromod.arguments import count, flag, number, one_of
from neuromod.errors import RefusedError
from neuromod.kinds.ranking import largest, refuse_nan
from neuromod.rewiring.scores import Score, score_of

ANNEALS = ("cosine", "linear", "constant")
CUTS = ("drawn", "once", "gradual")
BORN = ("zero", "start", "latent")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How the wires of a network change while it trains.

    An update drops the ``K = int(f n)`` smallest of the n wires of a site and grows K at the best of all places that are not kept:
    one that was just dropped may come back, and keeps its number. Where the density falls as well, more go than come.

    Args:
        drop: score of wires; the smallest go (`neuromod.rewiring.scores`).
        grow: score of places; the largest come. None: nothing grows.
        moved: the share f of a site's wires in an update, [0, 1], at the first one.
        anneal: of f: ``"cosine"`` ``moved / 2 (1 + cos(pi t / T))`` (Evci et al. 2020, eq. 1), ``"linear"`` or ``"constant"``; T the last
            step of updates.
        every: steps from an update to the next; the first is at step 0.
        until: the share (0, 1] of all steps after which nothing moves any more.
        born: the number of a new wire: ``"zero"``, ``"start"`` (what it was before training) or ``"latent"`` (what its place learned
            in the meantime; needs ``dense``).
        dense: whether the gradient reaches places without a wire too, and their slots in the optimiser.
        pauses: whether an update takes the place of the optimiser's step of the wires (RigL) or comes behind it (SET).
        cut: how the wires come to their density: ``"drawn"`` at random, ``"once"`` by the score ``drop`` before training
            (`Rewiring.prune`), ``"gradual"`` from all to the density until T, ``1 - (1 - t / T)^3`` of the way (Zhu and Gupta 2018, eq. 1).
        together: whether the layers compete for one total where the wires are cut once.
        rounds: of a cut that is made once, each leaving the same share.

    """

    drop: str | Score = "magnitude"
    grow: str | Score | None = None
    moved: float = 0.0
    anneal: Literal["cosine", "linear", "constant"] = "cosine"
    every: int = 100
    until: float = 0.75
    born: Literal["zero", "start", "latent"] = "zero"
    dense: bool = False
    pauses: bool = False
    cut: Literal["drawn", "once", "gradual"] = "drawn"
    together: bool = False
    rounds: int = 1
    dropping: Score = field(init=False, repr=False)
    growing: Score | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dropping", score_of(self.drop))
        object.__setattr__(self, "growing", None if self.grow is None else score_of(self.grow))
        number(self.moved, "moved, the share of wires that an update moves,", least=0, most=1)
        number(self.until, "until, the share of the steps in which wires move,", above=0, most=1)
        for name, value, known in (
            ("anneal", self.anneal, ANNEALS),
            ("cut", self.cut, CUTS),
            ("born", self.born, BORN),
        ):
            one_of(value, name, known)
        object.__setattr__(self, "every", count(self.every, "every, the steps from an update to the next,", least=1))
        object.__setattr__(self, "rounds", count(self.rounds, "rounds", least=1))
        for name in ("dense", "pauses", "together"):
            flag(getattr(self, name), name)
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        reads = self.growing.needs if self.growing else frozenset()
        moving = (self.growing, *((self.dropping,) if self.cut != "once" or self.moved else ()))
        wrong = (
            (
                any(score and (score.positive or "curvature" in score.needs) for score in moving),
                "curvature and numbers that are all positive are taken for a cut that is made once",
                f"drop={self.drop!r}, grow={self.grow!r} of wires that move",
                "set cut='once' and moved=0, or go by another score",
            ),
            (
                self.moved > 0 and self.grow is None,
                "wires that move come back elsewhere",
                "moved > 0 and grow=None",
                "name a score to grow by",
            ),
            (self.grow is not None and self.moved == 0, "wires grow where some moved", "grow and moved=0", "set moved"),
            (
                self.born == "latent" and not self.dense,
                "a place learns its number with dense=True",
                "born='latent' alone",
                "add dense=True",
            ),
            (
                "slots" in reads and not self.dense,
                "places have slots with dense=True",
                f"grow={self.grow!r} alone",
                "add dense=True",
            ),
            (
                self.cut != "once" and (self.together or self.rounds > 1),
                "together and rounds are of a cut that is made once",
                f"cut={self.cut!r}",
                "drop them, or set cut='once'",
            ),
        )
        for is_wrong, rule, got, remedy in wrong:
            if is_wrong:
                raise RefusedError(f"{rule}; got {got}; {remedy}")

    @property
    def moves(self) -> bool:
        """Whether wires change during training."""
        return self.moved > 0 or self.cut == "gradual"

    def last(self, steps: int) -> int:
        """The last step T at which wires may change, of so many."""
        return int(self.until * steps)

    def due(self, step: int, steps: int) -> bool:
        """Whether wires change at a step, counted from 0."""
        return self.moves and step % self.every == 0 and step <= self.last(steps)

    def share(self, step: int, steps: int) -> float:
        """The share f of a site's wires that moves at a step."""
        done = step / max(self.last(steps), 1)
        factor = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[self.anneal]
        return self.moved * factor

    def wanted(self, size: int, count: int, step: int, steps: int) -> int:
        """Wires of a site of ``size`` places at a step, on the way to ``count``.

        Args:
            size: places.
            count: wires at the end.
            step: at which they are counted.
            steps: of the training.

        """
        if self.cut != "gradual":
            return count
        left = (1 - min(step / max(self.last(steps), 1), 1.0)) ** 3
        return count + round((size - count) * left)


RULES: Mapping[str, Rule] = {
    # Wires drawn at random, which stay.
    "static": Rule(),
    # Mocanu et al. 2018, with the schedule of Evci et al. 2020.
    "set": Rule(grow="random", moved=0.3),
    # Evci et al. 2020, section 3.
    "rigl": Rule(grow="gradient", moved=0.3, pauses=True),
    # Dettmers and Zettlemoyer 2019, without its redistribution of wires among layers.
    "snfs": Rule(grow="momentum", moved=0.5, dense=True),
    # Wortsman et al. 2019: the largest of all weights, chosen anew at each step, the gradient to all.
    "dnw": Rule(grow="magnitude", moved=1.0, anneal="constant", every=1, until=1.0, born="latent", dense=True),
    # Zhu and Gupta 2018.
    "gmp": Rule(cut="gradual"),
    # The largest weights of a trained network, once, over all layers.
    "magnitude": Rule(cut="once", together=True),
    # Lee et al. 2019.
    "snip": Rule(drop="saliency", cut="once", together=True),
    # Wang et al. 2020; their loss has a temperature of 200, which is the user's to set.
    "grasp": Rule(drop="gradient_flow", cut="once", together=True),
    # Tanaka et al. 2020.
    "synflow": Rule(drop="synaptic_flow", cut="once", together=True, rounds=100),
    # Growth by the links alone, as in CHT (Zhang et al. 2024).
    "topology": Rule(grow="topology", moved=0.3),
    # Growth between units that are active together, as in networks that develop.
    "activity": Rule(grow="activity", moved=0.3),
}
"""The methods of the literature by name."""


def rule_of(name: str, **options: Any) -> Rule:
    """A rule of `RULES` by its name, with some of its options changed.

    >>> rule_of("rigl", every=25).every
    25
    """
    known = [f.name for f in fields(Rule) if f.init]
    for option in options:
        one_of(option, "an option of a rule", known)
    return replace(RULES[one_of(name, "a rule", RULES)], **options)


def moved_count(share: float, wires: int) -> int:
    """``K = int(f n)``, a product of two float32 cut to a whole number, as in the published code."""
    return int(np.float32(share) * np.float32(wires))


def drop_wires(wires: Tensor, score: Tensor, leaving: int) -> Tensor:
    """The wires without the ``leaving`` of smallest score, bool of the weight's shape.

    Args:
        wires: bool, before.
        score: of every place; those of wires count.
        leaving: how many go, at most all.

    """
    there = wires.flatten().nonzero().squeeze(1)
    kept = wires.clone().flatten()
    kept[there[select(-score.flatten()[there], leaving)]] = False
    return kept.view(wires.shape)


def grow_wires(kept: Tensor, score: Tensor, coming: int) -> Tensor:
    """The wires with the ``coming`` places of largest score among all that have none, bool of the weight's shape.

    Args:
        kept: bool, what an update left.
        score: of every place; those without a wire count.
        coming: how many come, at most as many as places are free.

    """
    free = kept.numel() - how_many(kept)
    if coming > free:
        raise RefusedError(f"wires need a place each; got {coming} new wires for {free} places; lower the density")
    refuse_nan(score)
    return kept | largest(score.masked_fill(kept, -torch.inf).flatten(), coming).view(kept.shape)


def select(score: Tensor, k: int) -> Tensor:
    """Which (n,) are the ``k`` largest, bool, the earlier of equals first. Refused: scores that are NaN, and more than there are."""
    if k > len(score):
        raise RefusedError(f"wires need a place each; got {k} wires for {len(score)} places; lower the density")
    refuse_nan(score)
    return largest(score, k)


def how_many(mask: Tensor) -> int:
    """The ones of a bool tensor; numpy counts them a hundred times faster than torch on a CPU."""
    return int(np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else mask.sum())
