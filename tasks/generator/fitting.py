"""Images and the latent vectors that a decoder makes them of: both sides may learn (GLO)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from tasks.runs.loop import Number, Optimiser
from tasks.runs.seeds import generator

Decode = Callable[[Tensor], Tensor]
"""Latent vectors (B, latent) to images (B, C, H, W)."""


def on_sphere(z: Tensor) -> Tensor:
    """Latent vectors (N, latent) at the length ``sqrt(latent)``, where almost all normal ones are (Bojanowski et al. 2018, section 2)."""
    length: Tensor = z.norm(dim=1, keepdim=True).clamp(min=1e-8)
    return z * (math.sqrt(z.shape[1]) / length)


def transport(z: Tensor, drawn: Tensor) -> Tensor:
    """The mean squared distance from normal vectors (M, latent) to the latent vector nearest to each: it spreads those of few images.

    The term of the latent vectors in batch-statistics adaptation (Noguchi and Harada 2019, section 3.3).
    """
    return torch.cdist(on_sphere(drawn), on_sphere(z)).amin(1).square().mean()


@dataclass(frozen=True)
class How:
    """How latent vectors, and what decodes them, are learned.

    Args:
        make: groups of parameters to an optimiser.
        latent: numbers of a latent vector.
        latent_lr: rate of the latent vectors.
        batch: images of a step.
        loss: ``"l2"`` or ``"l1"``, between pixels.
        spread: weight of `transport`.

    """

    make: Callable[[Any], torch.optim.Optimizer]
    latent: int
    latent_lr: float
    batch: int
    loss: Literal["l1", "l2"] = "l2"
    spread: float = 0.0


class Fit:
    """Latent vectors of some images, and perhaps what decodes them, learned together; a part of a run (`tasks.runs.stages.Part`).

    Args:
        x: images (N, C, H, W) from 0 to 1.
        decode: latent vectors to images.
        trained: parameters beside the latent vectors.
        steps: of training.
        how: they are learned.
        seed: of its draws.

    """

    def __init__(
        self, x: Tensor, decode: Decode, trained: Sequence[Tensor], *, steps: int, how: How, seed: int
    ) -> None:
        self.x, self.decode, self.steps, self.how, self.seed = x, decode, steps, how, seed
        drawn = torch.randn(len(x), how.latent, generator=generator(seed, "latent"))
        self.z = nn.Parameter(on_sphere(drawn).to(x.device))
        groups = [{"params": [self.z], "lr": how.latent_lr}, *([{"params": list(trained)}] if trained else [])]
        self.optimiser = Optimiser(how.make, lambda: groups, "cosine")

    def step(self, number: int) -> Mapping[str, Number]:
        """One step of all that learns."""
        rng = generator(self.seed, "batch", number)
        chosen = torch.randperm(len(self.x), generator=rng)[: self.how.batch].to(self.x.device)
        drawn = torch.randn(len(chosen), self.how.latent, generator=rng).to(self.x.device)
        return {"loss": self.optimiser.descend(lambda: self._loss(chosen, drawn), number / self.steps)}

    def _loss(self, chosen: Tensor, drawn: Tensor) -> Tensor:
        distance = {"l1": l1_loss, "l2": mse_loss}[self.how.loss]
        found = distance(self.decode(on_sphere(self.z[chosen])), self.x[chosen])
        return found + self.how.spread * transport(self.z, drawn) if self.how.spread else found

    @torch.no_grad()
    def made(self) -> Tensor:
        """Its images as they are decoded."""
        return self.decode(on_sphere(self.z))

    def error(self) -> float:
        """The mean squared error of their pixels."""
        return float(mse_loss(self.made(), self.x))

    def state_dict(self) -> dict[str, Any]:
        """Latent vectors and optimiser; what decodes them is its owner's."""
        return {"z": self.z.detach(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        with torch.no_grad():
            self.z.copy_(state["z"])
        self.optimiser.load_state_dict(state["optimiser"])
