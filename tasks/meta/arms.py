"""What an outer step does, arm by arm; all arms see as many images in as many outer steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neuromod.meta import Functional, Head, backward, online_dual, online_head, reset_row
from tasks.errors import UserError, nearest
from tasks.meta.pools import Pool
from tasks.meta.sampling import Trajectory, trajectory
from tasks.networks import ANML
from tasks.runs.seeds import generator

FAST = ("all", "head")


@dataclass(frozen=True)
class Plan:
    """An arm: ``learning`` meta-learns, alternates without differentiation, pretrains, or does nothing.

    ``fast`` says what the inner loop moves, ``order`` how it is differentiated, ``rate`` and ``steps`` how it runs; ``reset``
    draws the head's row of the class anew before each trajectory ("zapping").
    """

    learning: str
    fast: str
    order: int
    rate: float
    steps: int
    remember: int
    reset: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.order, bool) or self.order not in (1, 2):
            raise UserError(f"meta.plan.order must be 1 or 2; got {self.order!r}; 2 differentiates through the steps")
        if min(self.steps, self.remember) < 0:
            raise UserError(f"meta.plan counts images, 0 or more; got steps={self.steps}, remember={self.remember}")
        for key, value, known in (("learning", self.learning, (*STEPS, "nothing")), ("fast", self.fast, FAST)):
            if value not in known:
                raise UserError(
                    f"meta.plan.{key} must be one of {', '.join(known)}; got {value!r}; nearest: {nearest(value, known)}"
                )


def outer_step(plan: Plan, net: ANML, pool: Pool, seed: int, step: int) -> Tensor:
    """Add the gradient of an outer step to the network's parameters; returns the outer loss, detached."""
    return STEPS[plan.learning](plan, net, pool, seed, step)


def _meta(plan: Plan, net: ANML, pool: Pool, seed: int, step: int) -> Tensor:
    drawn = trajectory(pool, plan.steps, plan.remember, seed, step)
    fresh = net.head.weight
    if plan.reset:
        fresh = reset_row(fresh, drawn.row, _row(net, seed, step))
    if plan.fast == "head":
        loss = online_head(
            net.encode, Head(fresh, net.head.bias), drawn.images, drawn.labels, drawn.steps, plan.rate, order=plan.order
        )
    else:
        loss = _unrolled(plan, net, drawn, fresh)
    backward(loss)
    return loss.detach()


def _unrolled(plan: Plan, net: ANML, drawn: Trajectory, fresh: Tensor) -> Tensor:
    declared = Functional(net.pn, "*")
    # The gates do not depend on what the inner loop moves: once for all images.
    gates = net.gates(drawn.images).expand(len(drawn.images), -1)

    def encode(fast: Mapping[str, Tensor], batch: Any) -> Any:
        images, gate = batch
        return declared(fast, images) * gate

    head, seen = Head(fresh, net.head.bias), (drawn.images, gates)
    return online_dual(encode, declared.start(), head, seen, drawn.labels, drawn.steps, plan.rate, order=plan.order)


def _sequential(plan: Plan, net: ANML, pool: Pool, seed: int, step: int) -> Tensor:
    """A row drawn anew, then plain steps on the trajectory, kept; the outer gradient is that of the network as it is then."""
    drawn = trajectory(pool, plan.steps, plan.remember, seed, step)
    if plan.reset:
        with torch.no_grad():
            net.head.weight[drawn.row] = _row(net, seed, step)
    moved = [p for n, p in net.named_parameters() if p.requires_grad and (n.startswith("head") or plan.fast == "all")]
    for i in range(drawn.steps):
        loss = F.cross_entropy(net(drawn.images[i : i + 1]), drawn.labels[i : i + 1])
        for p, g in zip(moved, torch.autograd.grad(loss, moved), strict=True):
            p.data -= plan.rate * g
    return _plain(net, drawn.images, drawn.labels)


def _pretrain(plan: Plan, net: ANML, pool: Pool, seed: int, step: int) -> Tensor:
    """As many images, all drawn at random, in one batch."""
    drawn = trajectory(pool, 0, 2 * plan.steps + plan.remember, seed, step)
    return _plain(net, drawn.images, drawn.labels)


def _plain(net: ANML, images: Tensor, labels: Tensor) -> Tensor:
    loss = F.cross_entropy(net(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _row(net: ANML, seed: int, step: int) -> Tensor:
    """Kaiming normal, keyed by the step."""
    size = net.head.in_features
    drawn = torch.randn(size, generator=generator("row", seed, step)) * (2 / size) ** 0.5
    return drawn.to(net.head.weight)


STEPS: Mapping[str, Callable[[Plan, ANML, Pool, int, int], Tensor]] = {
    "meta": _meta,
    "sequential": _sequential,
    "pretrain": _pretrain,
}
