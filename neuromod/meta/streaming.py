"""Sequential meta-testing: heads that see every sample once, one at a time, for many rates and orders side by side.

The encoder is frozen, so features are computed once; what is learned is linear. SGD runs in dual form, block by block: the
logits of a block by one product, halves of it by the products of their features, then one update of the weights.
"""

from collections.abc import Iterable, Iterator
from operator import index

import torch
from torch import Tensor
from torch.nn import functional as F

from neuromod.arguments import count, number, shown, tensor
from neuromod.errors import RefusedError
from neuromod.meta.dual import LinearHead, check_head, check_pairs
from neuromod.meta.optimisers import Adam

LEAF = 32  # steps that are taken one by one; more than these are halved
PIECE = 32 * 2304  # weights that Adam moves at a time: four such pieces fit a cache of 2 MB


@torch.no_grad()
def sgd(
    features: Tensor,
    labels: Tensor,
    head: LinearHead,
    rates: Tensor,
    *,
    at: Iterable[int] = (),
    block: int = 256,
) -> Iterator[tuple[int, LinearHead]]:
    """Heads after so many samples: weight (R, C, D) and bias (R, C), a row for each of R rates.

    One trajectory gives all shorter ones. RefusedError for labels that the head has no output for, and for shapes that do not go
    together.

    Args:
        features: (N, D) in the order in which they arrive, or (R, N, D), an order for each rate.
        labels: int64 (N,), or (R, N).
        head: before the first sample.
        rates: of SGD (R,).
        at: numbers of samples after which a head is given out, the last always.
        block: samples of a product; it changes the last digits only.

    """
    rates, stops = _checked(features, labels, head, rates, at)
    try:
        block = count(block, "block", least=1)
    except RefusedError:
        raise RefusedError(f"block counts samples, 1 or more; got {shown(block)}; correct it") from None
    scale = rates[:, None, None]
    weight = head.weight.expand(len(rates), *head.weight.shape).clone()
    bias = head.bias.expand(len(rates), *head.bias.shape).clone()
    many = features.ndim == 3
    start = 0
    for stop in stops:
        while start < stop:
            end = min(start + block, stop)
            f = features[..., start:end, :] if many else features[None, start:end]
            y = labels[..., start:end] if many else labels[None, start:end]
            seen = f.expand(len(rates), -1, -1)
            errors = torch.baddbmm(bias[:, None], seen, weight.transpose(1, 2))
            _learn(f, y, errors, scale)
            weight.baddbmm_(errors.mul_(scale).transpose(1, 2), seen, alpha=-1)
            bias -= errors.sum(1)
            start = end
        yield stop, LinearHead(weight.clone(), bias.clone())


def _learn(features: Tensor, labels: Tensor, logits: Tensor, rates: Tensor) -> None:
    """Logits (R, B, C) of a block by the head before it become, in place, the errors of its steps; rates (R, 1, 1).

    The first half, its share in the logits of the second by one product, the second half.
    """
    if logits.shape[1] <= LEAF:
        _step_by_step(features, labels, logits, rates)
        return
    half = logits.shape[1] // 2
    (f, g), (y, z) = (part.split([half, logits.shape[1] - half], 1) for part in (features, labels))
    first, second = logits[:, :half], logits[:, half:]
    _learn(f, y, first, rates)
    second.baddbmm_((g @ f.transpose(1, 2) + 1) * -rates, first)
    _learn(g, z, second, rates)


def _step_by_step(features: Tensor, labels: Tensor, logits: Tensor, rates: Tensor) -> None:
    gram = (features @ features.transpose(1, 2) + 1) * rates
    wanted = torch.zeros_like(logits).scatter_(2, labels[..., None].expand(len(logits), -1, -1), 1.0)
    # An error is a softmax less a label, and labels are known beforehand: their share of all later logits is one product.
    logits.baddbmm_(gram.tril(-1), wanted)
    rows, past = logits.split(1, 1), gram.neg_().split(1, 1)
    # In place: after step t row t holds its softmax, and the rows behind it still their logits.
    for t, row in enumerate(rows):
        if t:
            row.baddbmm_(past[t][..., :t], logits[:, :t])
        torch.softmax(row, -1, out=row)
    logits.sub_(wanted)


# reason: those of sgd, and the constants of Adam
@torch.no_grad()
def adam(
    features: Tensor,
    labels: Tensor,
    head: LinearHead,
    rates: Tensor,
    *,
    at: Iterable[int] = (),
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Iterator[tuple[int, LinearHead]]:
    """As `sgd`, by Adam as optimisers of torch have it; no dual form, but all rates in one step.

    The gradient of a step is an outer product, and so enters the moments without being built.

    Args:
        features: as of `sgd`.
        labels: as of `sgd`.
        head: before the first sample.
        rates: of Adam (R,).
        at: as of `sgd`.
        betas: decay of the first and the second moment.
        eps: added to the root of the second moment, outside of it.

    """
    rates, stops = _checked(features, labels, head, rates, at)
    Adam(0.1, betas, eps)  # refuses constants that are none
    many = features.ndim == 3
    width, steps = len(rates), rates.tolist()
    weight = torch.cat([head.weight, head.bias[:, None]], 1).expand(width, -1, -1).clone()
    ones = F.pad(features, (0, 1), value=1.0)
    moments = torch.zeros(2, *weight.shape, dtype=weight.dtype, device=weight.device)
    room = weight.new_empty(max(1, PIECE // weight.shape[2]), weight.shape[2])
    for t in range(labels.shape[-1]):
        f = (ones[:, t] if many else ones[t]).expand(width, -1)
        y = (labels[:, t] if many else labels[t]).expand(width)
        error = torch.softmax((weight @ f[:, :, None]).squeeze(2), 1)
        error[torch.arange(width), y] -= 1
        # The corrections of both moments as one size of the step and one of eps.
        root = (1 - betas[1] ** (t + 1)) ** 0.5
        for i, rate in enumerate(steps):
            scale = rate * root / (1 - betas[0] ** (t + 1))
            _adam(weight[i], moments[0, i], moments[1, i], error[i], f[i], scale, eps * root, betas, room)
        if t + 1 in stops:
            yield t + 1, LinearHead(weight[:, :, :-1].clone(), weight[:, :, -1].clone())


# reason: one step in place: every tensor that it reads or writes
def _adam(
    weight: Tensor,
    first: Tensor,
    second: Tensor,
    error: Tensor,
    feature: Tensor,
    scale: float,
    eps: float,
    betas: tuple[float, float],
    room: Tensor,
) -> None:
    """One step, a few rows of the weight at a time, so that all of them stay in the cache."""
    square, less, lesser = feature.square(), error * (1 - betas[0]), error.square() * (1 - betas[1])
    parts = (part.split(len(room)) for part in (weight, first, second, less, lesser))
    for w, m, v, d, s in zip(*parts, strict=True):
        torch.addr(m, d, feature, beta=betas[0], out=m)
        torch.addr(v, s, square, beta=betas[1], out=v)
        size = torch.sqrt(v, out=room[: len(w)]).add_(eps)
        w.addcdiv_(m, size, value=-scale)


def _checked(
    features: Tensor, labels: Tensor, head: LinearHead, rates: Tensor, at: Iterable[int]
) -> tuple[Tensor, list[int]]:
    """The rates beside the features, and the numbers of samples after which a head is given out."""
    check_head(head)
    tensor(features, "features")
    listed = torch.tensor([number(r, "a rate") for r in rates]) if isinstance(rates, list | tuple) else rates
    rates = tensor(listed, "rates").to(features)
    lead = (len(rates),) if features.ndim == 3 and rates.ndim else ()
    if rates.ndim != 1 or features.ndim not in (2, 3) or features.shape[:-2] != lead:
        got = f"{tuple(features.shape)} and {tuple(rates.shape)}"
        raise RefusedError(
            f"rates (R,) go with features (N, D), or (R, N, D) of as many orders; got {got}; correct them"
        )
    wanted, found = (len(head.bias), features.shape[-1]), tuple(head.weight.shape)
    if found != wanted or not head.weight.dtype == head.bias.dtype == features.dtype:
        got = f"{found} of {head.weight.dtype} for {wanted} of {features.dtype}"
        raise RefusedError(f"a head (C, D) is of the size and dtype of the features; got {got}; correct it")
    check_pairs(features, labels, len(head.bias))
    return rates, _stops(labels.shape[-1], at)


def _stops(total: int, at: Iterable[int]) -> list[int]:
    try:
        stops = sorted({*map(index, at), total})
    except (TypeError, ValueError, RuntimeError) as error:
        raise RefusedError(f"numbers of samples are whole numbers; got {shown(at)}; correct them") from error
    if not 1 <= stops[0] <= stops[-1] <= total:
        wrong = [s for s in stops if not 1 <= s <= total]
        raise RefusedError(f"a head is given out after 1..{total} samples; got {wrong}; correct them")
    return stops
