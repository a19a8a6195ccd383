"""A generator and its discriminator, which take turns."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from neuromod import Modulated, Recipe
from tasks.config.build import call
from tasks.data.image_set import ImageSet
from tasks.data.pixels import unit
from tasks.experiment import Bench
from tasks.runs.loop import Number, Optimiser
from tasks.runs.seeds import derive, generator

Generate = Callable[[Tensor, Tensor], Tensor]
"""Latent vectors (B, latent) and classes (B,) to images."""


class Discriminator(nn.Module):
    """``psi(phi(x)) + <v_y, phi(x)>`` of an image and its class (Miyato and Koyama 2018), every weight under a spectral norm.

    ``phi`` is two convolutions of stride 2 and a linear layer. Without a class the second term is left out.

    Args:
        shape: of an image.
        classes: how many.
        width: maps of the first convolution; the second has twice as many, and phi as many as that.

    """

    def __init__(self, shape: list[int], classes: int, width: int) -> None:
        super().__init__()
        channels, height, side = shape
        size = 2 * width * -(-height // 4) * -(-side // 4)
        self.phi = nn.Sequential(
            spectral_norm(nn.Conv2d(channels, width, 3, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            spectral_norm(nn.Linear(size, 2 * width)),
            nn.LeakyReLU(0.1),
        )
        self.psi = spectral_norm(nn.Linear(2 * width, 1))
        self.classes = spectral_norm(nn.Embedding(classes, 2 * width))

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Images (B, C, H, W), and classes (B,) or None, to (B,): the larger, the more it takes them for real."""
        features = self.phi(x)
        found: Tensor = self.psi(features).squeeze(1)
        return found if y is None else found + (self.classes(y) * features).sum(1)


class Adversaries:
    """One step of the discriminator and one of the generator, by the hinge loss; a part of a run (`tasks.runs.stages.Part`).

    Args:
        name: of the part, for its draws.
        model: the generator, whose parameters are trained.
        generate: a call of it.
        found: real images and their classes.
        options: ``latent``, ``batch``, ``generator`` and ``discriminator`` (optimizers), ``told_lr``, ``critic`` (its width).
        told: whether the discriminator is told the class.
        bench: the run.

    """

    def __init__(
        self, name: str, model: Modulated, generate: Generate, found: ImageSet, options: Any, told: bool, bench: Bench
    ) -> None:  # reason: what two players and their game are made of
        self.model, self.generate, self.found, self.options = model, generate, found, options
        self.told, self.device = told, bench.device
        self.seed = derive(bench.seeds["data"], name)
        sizes = {"shape": list(found.shape), "classes": len(found.classes), "width": options.critic}
        self.discriminator = Recipe(Discriminator, sizes, init="pytorch", seed=derive(self.seed, "net")).build()
        self.discriminator.to(bench.device)
        self.optimisers = {
            "generator": Optimiser(lambda p: call(options.generator, "generator", p), self._groups),
            "discriminator": Optimiser(
                lambda p: call(options.discriminator, "discriminator", p), self.discriminator.parameters
            ),
        }

    def _groups(self) -> list[dict[str, Any]]:
        """What the generator learns: its own weights, and at a rate of its own what it is told by."""
        parts = self.model.named_modulators()
        told = [p for part in parts.values() if part.reads == "condition" for p in part.parameters()]
        own = [p for part in parts.values() if part.reads != "condition" for p in part.parameters()]
        groups: list[dict[str, Any]] = [{"params": told, "lr": self.options.told_lr}, {"params": own}]
        return [group for group in groups if group["params"]]

    def step(self, number: int) -> Mapping[str, Number]:
        """The discriminator learns to tell a batch of images from as many made ones, then the generator to have its own taken for real."""
        rng = generator(self.seed, "batch", number)
        size, latent = self.options.batch, self.options.latent
        chosen = torch.randint(len(self.found.train_labels), (size,), generator=rng)
        x, y = unit(self.found.train_images[chosen].to(self.device)), self.found.train_labels[chosen].to(self.device)
        first, second = torch.randn(2, size, latent, generator=rng).to(self.device)
        with torch.no_grad():
            made = self.generate(first, y)
        real = self.optimisers["discriminator"].descend(lambda: self._told_apart(x, made, y), 0.0)
        own = self.optimisers["generator"].descend(lambda: -self._score(self.generate(second, y), y).mean(), 0.0)
        return {"loss": own, "discriminator": real}

    def _told_apart(self, x: Tensor, made: Tensor, y: Tensor) -> Tensor:
        real, false = self._score(torch.cat([x, made]), torch.cat([y, y])).chunk(2)
        return (1 - real).relu().mean() + (1 + false).relu().mean()

    def _score(self, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = self.discriminator(x, y if self.told else None)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Both players and their optimisers."""
        return {
            "model": self.model.state_dict(),
            "net": self.discriminator.state_dict(),
            **{name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self.model.load_state_dict(state["model"])
        self.discriminator.load_state_dict(state["net"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
