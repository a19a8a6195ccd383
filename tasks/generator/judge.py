"""The judge of generated images: a classifier that none of the generators has seen."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neuromod import Recipe
from tasks.data.image_set import ImageSet
from tasks.data.pixels import unit
from tasks.experiment import Bench
from tasks.generator.parts import in_parts
from tasks.networks import conv
from tasks.runs.loop import Number, Optimiser
from tasks.runs.seeds import derive, generator

WIDTHS, BATCH, RATE = (32, 64), 128, 2e-3


class Judge:
    """A small convolutional classifier; a part of a run (`tasks.runs.stages.Part`).

    Args:
        found: images and classes.
        bench: the run; the judge's draws are its own.
        steps: of its training.

    """

    def __init__(self, found: ImageSet, bench: Bench, steps: int) -> None:
        self.found, self.steps = found, steps
        self.seed = derive(bench.seeds["source"], "judge")
        options = {"shape": list(found.shape), "outputs": len(found.classes), "widths": list(WIDTHS)}
        self.net = Recipe(conv, options, init="pytorch", seed=self.seed).build().to(bench.device)
        self.device = bench.device
        self.optimiser = Optimiser(lambda groups: torch.optim.Adam(groups, RATE), self.net.parameters, "cosine")

    def step(self, number: int) -> Mapping[str, Number]:
        """One step of training."""
        chosen = torch.randint(len(self.found.train_labels), (BATCH,), generator=generator(self.seed, "batch", number))
        x, y = unit(self.found.train_images[chosen].to(self.device)), self.found.train_labels[chosen].to(self.device)
        self.net.train()
        return {"loss": self.optimiser.descend(lambda: cross_entropy(self.net(x), y), number / self.steps)}

    def features(self, x: Tensor) -> Tensor:
        """What its last layer reads of images (N, C, H, W) from 0 to 1."""
        return in_parts(nn.Sequential(*list(self.net.eval().children())[:-1]), x).double()

    def classes(self, x: Tensor) -> Tensor:
        """The class that it sees in each image, (N,)."""
        return in_parts(self.net.eval(), x).argmax(1)

    def accuracy(self) -> float:
        """The share of test images whose class it sees."""
        seen = self.classes(unit(self.found.test_images.to(self.device))).cpu()
        return float((seen == self.found.test_labels).double().mean())

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])


def frechet(one: Tensor, other: Tensor) -> float:
    """``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))`` of the means and covariances of features (N, D) and (M, D).

    The Frechet distance of two normal distributions (Dowson and Landau 1982); with an Inception network's features it is the FID of
    Heusel et al. 2017, with a judge's it has another scale.
    """
    gap = (one.mean(0) - other.mean(0)).square().sum()
    a, b = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # The eigenvalues of C C' are those of the symmetric C^(1/2) C' C^(1/2).
    crossed = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float(gap + a.trace() + b.trace() - 2 * crossed)
