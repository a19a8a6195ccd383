"""What an outer step does, arm by arm; all arms see as many images in as many outer steps.

An arm of the experiment is a way to meta-train: OML, ANML, or a control that lacks one part of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from neuromod.meta import Functional, LinearHead, backward, online_dual, online_head, reset_row
from tasks.config.fields import Number, Weight, fit_fields
from tasks.errors import UserError
from tasks.meta.networks import ANML
from tasks.meta.pools import Pool
from tasks.meta.sampling import Trajectory, trajectory
from tasks.runs.seeds import generator


@dataclass(frozen=True, kw_only=True)
class Untrained:
    """No outer step is taken: random features."""

    trains: ClassVar[bool] = False

    def step(self, net: ANML, pool: Pool, seed: int, number: int) -> Tensor:
        """Add the gradient of an outer step to the network's parameters; returns the outer loss, detached, a scalar.

        Args:
            net: encoder and head; its parameters are those of the outer optimiser.
            pool: the classes that images are drawn from.
            seed: of all draws.
            number: of the step, which says what is drawn.

        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Pretrain(Untrained):
    """As many images as another arm sees in a step, all drawn at random, in one batch: ``2 * steps + remember``."""

    steps: Number = 20
    remember: Number = 64
    trains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        fit_fields(self, "arm")
        if not self.steps + self.remember:
            raise UserError("an outer step sees images; got arm.steps=0 and arm.remember=0; take one of them")

    def step(self, net: ANML, pool: Pool, seed: int, number: int) -> Tensor:
        """The gradient of a plain batch."""
        drawn = trajectory(pool, 0, 2 * self.steps + self.remember, seed, number)
        return _plain(net, drawn.images, drawn.labels)


@dataclass(frozen=True, kw_only=True)
class Alternating(Pretrain):
    """Plain steps on a trajectory, kept; the outer gradient is that of the network as it is then (Frati et al. 2024).

    Args:
        steps: inner steps, each on an image of one class.
        remember: images of any class in the outer loss, beside those of the trajectory.
        fast: what the inner steps move, ``all`` or the ``head``.
        rate: of the inner steps.
        reset: the head's row of the class is drawn anew before each trajectory ("zapping").

    """

    fast: Literal["all", "head"] = "all"
    rate: Weight = 0.1
    reset: bool = True

    def step(self, net: ANML, pool: Pool, seed: int, number: int) -> Tensor:
        """Inner steps that stay, then the gradient of a plain batch."""
        drawn = trajectory(pool, self.steps, self.remember, seed, number)
        if self.reset:
            with torch.no_grad():
                net.head.weight[drawn.row] = _row(net, seed, number)
        learned = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        moved = [p for name, p in learned if name.startswith("head") or self.fast == "all"]
        for i in range(drawn.steps):
            loss = F.cross_entropy(net(drawn.images[i : i + 1]), drawn.labels[i : i + 1])
            for p, g in zip(moved, torch.autograd.grad(loss, moved), strict=True):
                p.data -= self.rate * g
        return _plain(net, drawn.images, drawn.labels)


@dataclass(frozen=True, kw_only=True)
class Meta(Alternating):
    """Inner steps on a trajectory, differentiated through (``order`` 2) or not (1): OML, ANML (Beaulieu et al. 2020)."""

    order: Literal[1, 2] = 2

    def step(self, net: ANML, pool: Pool, seed: int, number: int) -> Tensor:
        """The gradient of the loss behind the inner steps."""
        drawn = trajectory(pool, self.steps, self.remember, seed, number)
        fresh = net.head.weight
        if self.reset:
            fresh = reset_row(fresh, drawn.row, _row(net, seed, number))
        if self.fast == "head":
            head = LinearHead(fresh, net.head.bias)
            loss = online_head(net.encode, head, drawn.images, drawn.labels, drawn.steps, self.rate, order=self.order)
        else:
            loss = self._unrolled(net, drawn, fresh)
        backward(loss)
        return loss.detach()

    def _unrolled(self, net: ANML, drawn: Trajectory, fresh: Tensor) -> Tensor:
        declared = Functional(net.pn, "*")
        # The gates do not depend on what the inner loop moves: once for all images.
        gates = net.gates(drawn.images).expand(len(drawn.images), -1)

        def encode(fast: Mapping[str, Tensor], batch: Any) -> Any:
            images, gate = batch
            return declared(fast, images) * gate

        head, seen = LinearHead(fresh, net.head.bias), (drawn.images, gates)
        start, order = declared.start(), self.order
        return online_dual(encode, start, head, seen, drawn.labels, drawn.steps, self.rate, order=order)


def _plain(net: ANML, images: Tensor, labels: Tensor) -> Tensor:
    loss = F.cross_entropy(net(images), labels)
    loss.backward()
    return loss.detach()


def _row(net: ANML, seed: int, step: int) -> Tensor:
    """Kaiming normal, keyed by the step."""
    size = net.head.in_features
    drawn = torch.randn(size, generator=generator("row", seed, step)) * (2 / size) ** 0.5
    row: Tensor = drawn.to(net.head.weight)
    return row
