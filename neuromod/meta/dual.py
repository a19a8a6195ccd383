"""A linear softmax head trained by SGD, one sample a step, in dual form: exact, and never unrolled.

A step moves the weights by ``-rate d_t f_t^T`` and the bias by ``-rate d_t``, with ``d_t = softmax(z_t) - onehot(y_t)``, so after
K steps ``W = W_0 - rate D^T F`` and all that is needed on the way are the products of features:

    z_t = W_0 f_t + b_0 - rate sum_{i<t} (f_i . f_t + 1) d_i

Features are computed once for all images, gradients flow through them (the encoder, a gate) as they would through the loop.
Exact for plain SGD; Adam has no such form.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from neuromod.arguments import number, shown, tensor
from neuromod.errors import RefusedError
from neuromod.meta.inner import check_order


class LinearHead(NamedTuple):
    """A linear classifier: ``weight`` (C, D), ``bias`` (C,)."""

    weight: Tensor
    bias: Tensor


def errors(features: Tensor, labels: Tensor, head: LinearHead, rate: float | Tensor, *, order: int = 2) -> Tensor:
    """``D`` (K, C): the errors ``softmax(z_t) - onehot(y_t)`` of the K steps, as the head stands before each.

    Args:
        features: (K, D) of the samples that are learned, in their order.
        labels: int64 (K,).
        head: before the first step.
        rate: of SGD, a number or a 0-d tensor that is learned.
        order: 1: the steps count as constants, as in FOMAML, and no gradient flows through the errors; 2: exact.

    """
    check_order(order)
    _check(features, labels, head)
    check_rate(rate)
    if order == 1:
        features, head = features.detach(), LinearHead(head.weight.detach(), head.bias.detach())
        rate = rate.detach() if isinstance(rate, Tensor) else rate
    start = F.linear(features, head.weight, head.bias)
    gram = rate * (features @ features.T + 1)
    wanted = F.one_hot(labels, len(head.bias)).to(start)
    made: list[Tensor] = []
    for t in range(len(features)):
        z = start[t] - gram[t, :t] @ torch.stack(made) if made else start[t]
        made.append(torch.softmax(z, -1) - wanted[t])
    return torch.stack(made) if made else start


def head_after(features: Tensor, deltas: Tensor, head: LinearHead, rate: float | Tensor) -> LinearHead:
    """The head after its steps: ``W - rate D^T F`` and ``b - rate sum_t d_t``.

    Args:
        features: F (K, D) of the samples that were learned.
        deltas: D (K, C), what `errors` returned for them.
        head: before the first step.
        rate: of SGD.

    """
    return LinearHead(head.weight - rate * deltas.T @ features, head.bias - rate * deltas.sum(0))


def outputs(
    query: Tensor, features: Tensor, deltas: Tensor, head: LinearHead, rate: float | Tensor, *, order: int = 2
) -> Tensor:
    """Logits (Q, C) of query features by the head after its steps, without building that head.

    Args:
        query: features (Q, D).
        features: F (K, D) of the samples that were learned.
        deltas: D (K, C), what `errors` returned for them.
        head: before the first step.
        rate: of SGD.
        order: 1: no gradient flows through ``features``; 2: exact.

    """
    check_order(order)
    if order == 1:
        features = features.detach()
    return F.linear(query, head.weight, head.bias) - correction(query, features, deltas, rate)


def correction(query: Tensor, features: Tensor, deltas: Tensor, rate: float | Tensor) -> Tensor:
    """What the steps took from the logits of a query, ``rate (Q F^T + 1) D``, (Q, C).

    Args:
        query: features (Q, D).
        features: F (K, D) of the samples that were learned.
        deltas: D (K, C), what `errors` returned for them.
        rate: of SGD.

    """
    return rate * (query @ features.T + 1) @ deltas


def check_pairs(features: Tensor, labels: Tensor, classes: int) -> None:
    """Refuse labels that do not go with features one by one, or that are not in 0..classes-1.

    Args:
        features: (..., N, D).
        labels: (..., N).
        classes: outputs of the head.

    """
    if tensor(labels, "labels", integers=True).shape != tensor(features, "features").shape[:-1]:
        got = f"{tuple(labels.shape)} for {tuple(features.shape)}"
        raise RefusedError(f"every feature has a label; got {got}; correct them")
    check_labels(labels, classes)


def check_head(head: Any) -> None:
    """Refuse what is no linear classifier: a weight (C, D) and a bias (C,)."""
    if not isinstance(head, tuple) or len(head) != 2:
        raise RefusedError(f"a head is LinearHead(weight, bias); got {shown(head)}; pass one")
    weight, bias = tensor(head[0], "the weight of a head", 2), tensor(head[1], "the bias of a head", 1)
    if len(weight) != len(bias):
        raise RefusedError(f"a head has a bias for each of its rows; got {len(bias)} for {len(weight)}; correct it")


def check_rate(rate: Any) -> None:
    """Refuse a rate that is neither a finite number nor a 0-d tensor of floats."""
    if not isinstance(rate, Tensor):
        number(rate, "rate")
    else:
        tensor(rate, "a learned rate", 0)


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels that a head has no output for."""
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        got = f"{int(labels.min())}..{int(labels.max())} for {classes} outputs"
        raise RefusedError(f"labels must be outputs of the head; got {got}; widen the head, or correct the labels")


def _check(features: Tensor, labels: Tensor, head: LinearHead) -> None:
    check_head(head)
    if tensor(features, "features").ndim != 2 or head.weight.shape != (len(head.bias), features.shape[1]):
        raise RefusedError(
            f"a head of (C, D) reads features (K, D); got {tuple(head.weight.shape)} and {tuple(features.shape)}; correct them"
        )
    if not features.dtype == head.weight.dtype == head.bias.dtype:
        raise RefusedError(
            f"a head has the dtype of its features; got {head.weight.dtype} and {features.dtype}; convert it"
        )
    check_pairs(features, labels, len(head.bias))


# Former names, for code that imports them.
moved, taken = head_after, correction
