"""Sequential meta-testing: heads that see every sample once, one at a time, for many rates and orders side by side.

The encoder is frozen, so features are computed once; what is learned is linear. SGD runs in dual form, block by block: the
logits of a block by one product, the recursion inside it by the products of its own features, then one update of the weights.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from neuromod.errors import RefusedError
from neuromod.meta.dual import Head


@torch.no_grad()
def sgd(
    features: Tensor,
    labels: Tensor,
    head: Head,
    rates: Tensor,
    *,
    at: Iterable[int] = (),
    block: int = 128,
) -> Iterator[tuple[int, Head]]:
    """Heads after so many samples: weight (R, C, D) and bias (R, C), a row for each of the ``rates`` (R,).

    Features (N, D) and labels (N,) in the order in which they arrive, or (R, N, D) and (R, N), an order a rate. ``at`` are the
    numbers of samples after which a head is given out, the last always; so one trajectory gives all shorter ones.
    """
    stops = _stops(labels.shape[-1], at)
    rates = rates.to(features)
    weight = head.weight.expand(len(rates), *head.weight.shape).clone()
    bias = head.bias.expand(len(rates), *head.bias.shape).clone()
    many = features.ndim == 3
    start = 0
    for stop in stops:
        while start < stop:
            end = min(start + block, stop)
            f = features[..., start:end, :] if many else features[None, start:end]
            y = labels[..., start:end] if many else labels[None, start:end]
            found = _block(f, y, weight, bias, rates)
            scaled = found * rates[:, None, None]
            weight -= scaled.transpose(1, 2) @ f
            bias -= scaled.sum(1)
            start = end
        yield stop, Head(weight.clone(), bias.clone())


def _block(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, rates: Tensor) -> Tensor:
    """The errors (R, B, C) of a block of features (1 or R, B, D)."""
    logits = features @ weight.transpose(1, 2) + bias[:, None]
    gram = (features @ features.transpose(1, 2) + 1) * rates[:, None, None]
    wanted = F.one_hot(labels, bias.shape[1]).to(logits).expand_as(logits)
    # In place: after step t row t holds its error, and rows behind it the logits of the head as it was at the start.
    for t in range(logits.shape[1]):
        if t:
            logits[:, t] -= (gram[:, t, None, :t] @ logits[:, :t]).squeeze(1)
        torch.softmax(logits[:, t], -1, out=logits[:, t])
        logits[:, t] -= wanted[:, t]
    return logits


@torch.no_grad()
def adam(
    features: Tensor,
    labels: Tensor,
    head: Head,
    rates: Tensor,
    *,
    at: Iterable[int] = (),
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Iterator[tuple[int, Head]]:
    """As `sgd`, by Adam with ``eps`` outside the root, as optimisers of torch have it; no dual form, but all rates in one step.

    The gradient of a step is an outer product, and so enters the moments without being built.
    """
    stops = set(_stops(labels.shape[-1], at))
    rates = rates.to(features)
    weight = torch.cat([head.weight, head.bias[:, None]], 1).expand(len(rates), -1, -1).clone()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    size = torch.empty_like(weight)
    ones = torch.nn.functional.pad(features, (0, 1), value=1.0)
    many = features.ndim == 3
    for t in range(labels.shape[-1]):
        f = ones[:, t] if many else ones[t].expand(len(rates), -1)
        y = labels[:, t] if many else labels[t].expand(len(rates))
        error = torch.softmax((weight @ f[:, :, None]).squeeze(2), 1)
        error[torch.arange(len(rates)), y] -= 1
        first.baddbmm_(error[:, :, None], f[:, None], beta=betas[0], alpha=1 - betas[0])
        second.baddbmm_(error.square()[:, :, None], f.square()[:, None], beta=betas[1], alpha=1 - betas[1])
        torch.sqrt(second, out=size)
        root = (1 - betas[1] ** (t + 1)) ** 0.5
        size.add_(eps * root)
        step = rates * (root / (1 - betas[0] ** (t + 1)))
        weight.sub_(torch.div(first, size, out=size).mul_(step[:, None, None]))
        if t + 1 in stops:
            yield t + 1, Head(weight[:, :, :-1].clone(), weight[:, :, -1].clone())


def _stops(count: int, at: Iterable[int]) -> list[int]:
    stops = sorted({*at, count})
    if stops[0] < 1 or stops[-1] > count:
        raise RefusedError(
            f"a head is given out after 1..{count} samples; got {[s for s in stops if not 1 <= s <= count]}"
        )
    return stops
