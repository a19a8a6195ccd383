"""Streaming meta-testing: many classes, a few images of each, one at a time, in one pass, and then what is still known.

The encoder is frozen and its features are computed once. A linear head with a row for every class learns class after
class, in several orders at once; one trajectory gives all shorter ones. The rate is chosen on validation classes, never
on those tested.

Args:
    encoded: features of the classes.
    orders: int64 (orders, length), places of classes in the order in which they are learned.
    lengths: numbers of classes after which is tested, ascending.
    seed: of heads and of orders.
    encode: images float (B, C, H, W) in [0, 1] to features (B, D).

"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neuromod.meta import LinearHead, StreamingLDA, class_means, ridge, streaming
from tasks.config.fields import Count, Rate
from tasks.errors import UserError, nearest
from tasks.meta.pools import Pool, Pools
from tasks.runs.seeds import generator

OPTIMISERS: Mapping[str, Callable[..., Any]] = {"sgd": streaming.sgd, "adam": streaming.adam}
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Protocol:
    """How a streaming test is run.

    UserError for lengths that do not ascend, and for an optimiser without rates.

    Args:
        lengths: numbers of classes after which is tested, ascending.
        shots: images of each class that are learned; it is tested on the rest.
        orders: orders of classes, each with a head drawn anew.
        rates: the rates to choose from, by optimiser: ``sgd`` always, ``adam`` beside it.

    """

    lengths: Sequence[Count]
    shots: Count
    orders: Count
    rates: Mapping[str, Sequence[Rate]]

    def __post_init__(self) -> None:
        if list(self.lengths) != sorted(set(self.lengths)) or min(self.lengths, default=0) < 1:
            raise UserError(f"test.lengths count classes, in ascending order; got {list(self.lengths)}")
        for name in {"sgd", *self.rates}:
            if name not in OPTIMISERS or not self.rates.get(name):
                known = nearest(name, OPTIMISERS)
                raise UserError(
                    f"test.rates sweeps {', '.join(OPTIMISERS)}, sgd always; got {name!r}; nearest: {known}"
                )

    def fitting(self, pool: Pool) -> list[int]:
        """The lengths that a pool has classes for; all of its classes where it has fewer than the shortest."""
        if self.shots >= pool.each:
            raise UserError(f"shots must leave images to ask for; got {self.shots} of {pool.each}; take fewer")
        return [n for n in self.lengths if n <= len(pool)] or [len(pool)]


@dataclass(frozen=True)
class Sweep:
    """How a head learns, at each of several rates.

    Args:
        optimiser: ``sgd`` or ``adam``.
        rates: of its steps, > 0, ascending.
        shuffled: images of all classes come in one random order: the i.i.d. ceiling of one pass.

    """

    optimiser: str
    rates: Sequence[float]
    shuffled: bool = False


@dataclass(frozen=True, eq=False)
class Encoded:
    """Features (classes, each, D) of a pool."""

    features: Tensor
    shots: int

    @classmethod
    @torch.no_grad()
    def of(cls, encode: Callable[[Tensor], Tensor], pool: Pool, shots: int, batch: int = 500) -> "Encoded":
        """The features of every image of a pool; nothing in the encoder may depend on the other images of a batch.

        FloatingPointError where a feature is not finite.

        Args:
            pool: the classes.
            shots: images of each that are learned.
            batch: images per forward.

        """
        flat = pool.images.flatten(0, 1)
        parts = [encode(part.float() / 255) for part in flat.split(batch)]
        features = torch.cat(parts)
        if not features.isfinite().all():
            raise FloatingPointError("features must be finite; the encoder gives nan or inf; lower rate")
        return cls(features.unflatten(0, pool.images.shape[:2]), shots)

    def support(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) class after class in an order of the classes; labels are places in it."""
        return self._flat(self.features[order, : self.shots])

    def queries(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the images that were not learned."""
        return self._flat(self.features[order, self.shots :])

    def _flat(self, features: Tensor) -> tuple[Tensor, Tensor]:
        classes, each = features.shape[:2]
        labels = torch.arange(classes, device=features.device).repeat_interleave(each)
        return features.flatten(0, 1), labels


def meta_test(encode: Callable[[Tensor], Tensor], pools: Pools, protocol: Protocol, seed: int) -> dict[str, Any]:
    """What each head knows after each length, on classes never seen: mean over orders, and every order.

    ``orders`` are the classes' places by name in the order in which they came; ``sgd``, ``adam``, ``iid``, ``ridge``,
    ``means`` and ``slda`` the heads.

    Args:
        pools: rates are chosen on ``validation``, accuracy is measured on ``test``.
        protocol: lengths, shots, orders, rates.

    """
    checked = Encoded.of(encode, pools.validation, protocol.shots)
    tested = Encoded.of(encode, pools.test, protocol.shots)
    lengths, some = protocol.fitting(pools.test), protocol.fitting(pools.validation)
    orders = drawn_orders(len(pools.test), max(lengths), protocol.orders, seed)
    result: dict[str, Any] = {"lengths": lengths, "orders": orders.tolist(), "shots": protocol.shots}
    sweeps = {name: Sweep(name, rates) for name, rates in protocol.rates.items()}
    sweeps["iid"] = Sweep("sgd", protocol.rates["sgd"], shuffled=True)
    for name, sweep in sweeps.items():
        choice = choose_rate(checked, max(some), sweep, protocol.orders, seed)
        found = trajectories(tested, orders, lengths, replace(sweep, rates=[choice["rate"]]), seed)
        result[name] = choice | _summed(found)
    penalty = choose_penalty(checked, drawn_orders(len(pools.validation), max(some), 1, seed)[0])
    result |= closed_heads(tested, orders, lengths, penalty)
    return result


def drawn_orders(classes: int, length: int, count: int, seed: int) -> Tensor:
    """Orders (count, length) of classes by place.

    Args:
        classes: of the pool.
        length: classes of an order, at most all of them.
        count: of orders.

    """
    return torch.stack([torch.randperm(classes, generator=generator("order", seed, i))[:length] for i in range(count)])


def trajectories(
    encoded: Encoded,
    orders: Tensor,
    lengths: Sequence[int],
    sweep: Sweep,
    seed: int,
) -> dict[str, Tensor]:
    """``test`` and ``train`` accuracy (orders, lengths, rates) in [0, 1]; all rates of an order in one recursion.

    Args:
        sweep: how a head learns, at which rates.

    """
    rates, shuffled = sweep.rates, sweep.shuffled
    found = {key: torch.zeros(len(orders), len(lengths), len(rates), dtype=torch.float64) for key in ("test", "train")}
    for i, order in enumerate(orders):
        for places in [[j] for j in range(len(lengths))] if shuffled else [list(range(len(lengths)))]:
            f, y = encoded.support(order[: lengths[places[-1]]])
            if shuffled:
                mixed = torch.randperm(len(y), generator=generator("shuffled", seed, i, len(y))).to(y.device)
                f, y = f[mixed], y[mixed]
            head, at = fresh_head(orders.shape[1], f, seed, i), [lengths[j] * encoded.shots for j in places]
            heads = OPTIMISERS[sweep.optimiser](f, y, head, torch.tensor(rates), at=at)
            for j, (_, moved) in zip(places, heads, strict=True):
                part = order[: lengths[j]]
                for r, own in enumerate(zip(moved.weight, moved.bias, strict=True)):
                    found["test"][i, j, r] = right(LinearHead(*own), *encoded.queries(part))
                    found["train"][i, j, r] = right(LinearHead(*own), *encoded.support(part))
    return found


def fresh_head(classes: int, like: Tensor, seed: int, order: int) -> LinearHead:
    """A head by Kaiming normal, bias 0, keyed by the order.

    Args:
        classes: rows of the head.
        like: features (..., D), for size, type and device.
        order: the number of the order.

    """
    size = like.shape[-1]
    weight = torch.randn(classes, size, generator=generator("head", seed, order)) * (2 / size) ** 0.5
    return LinearHead(weight.to(like), like.new_zeros(classes))


@torch.no_grad()
def right(head: LinearHead, features: Tensor, labels: Tensor) -> float:
    """The share in [0, 1] that a head classifies right; an answer of a head that has diverged is wrong.

    Args:
        head: weight (C, D) and bias (C,).
        features: (N, D).
        labels: int64 (N,).

    """
    logits = features @ head.weight.T + head.bias
    return float(((logits.argmax(1) == labels) & ~logits.isnan().any(1)).double().mean())


def choose_rate(
    encoded: Encoded,
    length: int,
    sweep: Sweep,
    orders: int,
    seed: int,
) -> dict[str, Any]:
    """The rate that is best on validation classes, and the whole sweep; a warning where it is at the edge of its sweep.

    Args:
        length: classes after which rates are compared.
        sweep: the rates to choose from.
        orders: how many orders of classes are averaged.

    """
    drawn = drawn_orders(len(encoded.features), length, orders, seed)
    found = trajectories(encoded, drawn, [length], sweep, seed)
    rates, means = sweep.rates, found["test"].mean((0, 1)).tolist()
    best = max(range(len(rates)), key=lambda i: means[i])
    edge = best in (0, len(rates) - 1)
    if edge:
        warnings.warn(
            f"the best rate of {sweep.optimiser}, {rates[best]}, is at the edge of its sweep; widen it", stacklevel=2
        )
    return {"rate": rates[best], "sweep": [list(pair) for pair in zip(rates, means, strict=True)], "edge": edge}


def choose_penalty(encoded: Encoded, order: Tensor) -> float:
    """The ridge penalty that is best on validation classes."""
    support, queries = encoded.support(order), encoded.queries(order)
    scores = {p: right(ridge(*support, len(order), p), *queries) for p in PENALTIES}
    return max(scores, key=lambda p: scores[p])


def closed_heads(encoded: Encoded, orders: Tensor, lengths: Sequence[int], penalty: float) -> dict[str, Any]:
    """Ridge, class means and streaming discriminant analysis on the same features; they know no order to forget.

    Args:
        penalty: of the ridge, > 0.

    """
    found: dict[str, Any] = {}
    for name in ("ridge", "means", "slda"):
        # A discriminant analysis of every order is the same one but for rounding.
        some = orders[:1] if name == "slda" else orders
        scores = torch.zeros(len(some), len(lengths), 1, dtype=torch.float64)
        for i, order in enumerate(some):
            for j, length in enumerate(lengths):
                head = _closed(name, *encoded.support(order[:length]), length, penalty)
                scores[i, j] = right(head, *encoded.queries(order[:length]))
        found[name] = _summed({"test": scores})
    found["ridge"]["penalty"] = penalty
    return found


def _closed(name: str, features: Tensor, labels: Tensor, classes: int, penalty: float) -> LinearHead:
    if name == "ridge":
        return ridge(features, labels, classes, penalty)
    if name == "means":
        return class_means(features, labels, classes)
    lda = StreamingLDA(features.shape[1], classes)
    lda.learn(features.cpu(), labels.cpu())
    head = lda.head()
    return LinearHead(head.weight.to(features), head.bias.to(features))


def _summed(accuracies: Mapping[str, Tensor]) -> dict[str, Any]:
    """Of accuracies (orders, lengths, 1): every order, and the mean over orders by length."""
    every = {
        key: [[round(v, 6) for v in row] for row in values.squeeze(2).tolist()] for key, values in accuracies.items()
    }
    return every | {f"{key}_mean": values.mean((0, 2)).tolist() for key, values in accuracies.items()}
