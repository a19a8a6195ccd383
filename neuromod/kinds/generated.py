"""Whole tensors in the place of the target's: generated weights, and a task's own classifier."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuromod.arguments import count
from neuromod.kinds.base import Edits, Kind, Now, Raw, uniform
from neuromod.target.sites import Site


@dataclass(frozen=True)
class Generated(Kind):
    """``W' = w``: the weight itself. Raw part: ``weight``, of the weight's shape.

    Starts at ``N(0, 2 / fan_in)``, the scale of the layer; without it a generated network blows up (Chang et al. 2020,
    section 3). The identity is the target's own weight. Ha et al. 2017; von Oswald et al. 2020.
    """

    replaces: ClassVar[bool] = True

    @property
    def wired(self) -> str:
        return "weight"

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"weight": site.shape}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        return {"weight": (torch.randn(site.shape, generator=rng) * self.scale(site)).to(now[site.name])}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        return {"weight": now[site.name].detach()}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        return {site.name: raw["weight"]}

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        """A weight without a wire is 0."""
        return values * wires

    def scale(self, site: Site) -> float:
        return math.sqrt(2 / site.fan_in)


@dataclass(frozen=True)
class Head(Kind):
    """A task's own classifier: ``logits = weight h + bias`` in the place of the last linear layer (`Target.head`).

    Raw parts: ``weight`` (width, fan_in), ``bias`` (width,). ``width`` defaults to the target's and may differ from task
    to task (``modulator.add(task, width=5)``); in a mixed batch narrower logits are padded with -inf. Starts at
    ``U(-1, 1) / sqrt(fan_in)``, the linear layer's own; the identity is the target's classifier.
    """

    width: int | None = None
    replaces: ClassVar[bool] = True
    alone: ClassVar[bool] = True
    per_task: ClassVar[tuple[str, ...]] = ("width",)

    def __post_init__(self) -> None:
        if self.width is not None:
            object.__setattr__(self, "width", count(self.width, "the width of a head", least=1))

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        width = site.shape[0] if self.width is None else self.width
        return {"weight": (width, *site.shape[1:])} | ({"bias": (width,)} if site.bias else {})

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        bound = 1 / math.sqrt(site.fan_in)
        return {part: uniform(shape, bound, now[site.name], rng) for part, shape in self.shapes(site).items()}

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        if self.shapes(site)["weight"] != site.shape:
            return None
        return {part: now[f"{site.module}.{part}".lstrip(".")].detach().clone() for part in self.shapes(site)}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        return {f"{site.module}.{part}".lstrip("."): value for part, value in raw.items()}

    def writes(self, site: Site) -> tuple[str, ...]:
        return (site.name, *([f"{site.module}.bias".lstrip(".")] if site.bias else ()))
