"""Exact subset sums, many at once: which candidates add up to a number as nearly as any of them can.

Meet in the middle (Horowitz & Sahni 1974): all ``2^(n/2)`` sums of either half are listed and sorted together, for the nearest
pair are neighbours there. ``O(2^(n/2) n)`` a weight instead of ``2^n``, and no solver.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromod.arguments import count, number, tensor
from neuromod.errors import RefusedError

FLOAT = NDArray[np.float64]
LARGEST, LARGEST_SHARED = 30, 24
BLOCK = 1 << 17  # sums that are sorted at a time: they stay in a second-level cache


def subset_sum(targets: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """The subset of each row's candidates whose sum is nearest to its target: chosen, bool (B, n), and sums, float64 (B,).

    Exactly optimal, to the last bit of a sum. The empty subset, with sum 0, is one.

    >>> chosen, sums = subset_sum(torch.tensor([0.5, -1.0]), torch.tensor([[0.3, 0.25, 0.2], [0.3, -0.6, -0.5]]))
    >>> chosen.int().tolist(), sums.round(decimals=3).tolist()
    ([[1, 0, 1], [0, 1, 1]], [0.5, -1.1])
    """
    wanted, drawn = _numbers(targets, "targets", 1), _numbers(candidates, "candidates", 2)
    n = count(drawn.shape[1], "n, the candidates of a weight,", least=1, most=LARGEST)
    if len(wanted) != len(drawn):
        raise RefusedError(
            f"each target has a row of candidates; got {len(wanted)} targets for {len(drawn)} rows; pass as many of each"
        )
    half = n // 2
    rows = max(1, BLOCK // ((1 << half) + (1 << n - half)))
    parts = [_nearest(wanted[i : i + rows], drawn[i : i + rows], half) for i in range(0, len(wanted), rows)]
    chosen = np.concatenate(parts) if parts else np.zeros(drawn.shape, bool)
    return torch.from_numpy(chosen), torch.from_numpy((chosen * drawn).sum(1))


def shared_subset_sum(targets: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """The same where all targets (B,) choose among the same candidates (n,): one sorted table of all ``2^n`` sums answers each."""
    wanted, drawn = _numbers(targets, "targets", 1), _numbers(candidates, "candidates", 1)
    n = count(len(drawn), "n, the shared candidates,", least=1, most=LARGEST_SHARED)
    sums = np.empty((1, 1 << n))
    _list_sums(sums, drawn[None])
    order = sums[0].argsort()
    table = sums[0][order]
    above = table.searchsorted(wanted).clip(1, len(table) - 1)
    nearest = above - (wanted - table[above - 1] <= table[above] - wanted)
    chosen = _bits(order[nearest], n)
    return torch.from_numpy(chosen), torch.from_numpy((chosen * drawn).sum(1))


def median_error_law(n: int, second_moment: float = 1 / 9) -> float:
    """``(ln 2 / 2) sqrt(pi n E[p^2]) 2^-n``: the median distance of a small number from the nearest of ``2^n`` sums.

    ``E[p^2]`` is 1/9 where candidates are products of two uniform numbers in [-1, 1], 1/3 where they are one such number.
    """
    n = count(n, "n, the candidates of a weight,", least=1)
    second_moment = number(second_moment, "second_moment, the mean square of a candidate,", above=0)
    return math.log(2) / 2 * math.sqrt(math.pi * n * second_moment) * 2.0**-n


def _nearest(wanted: FLOAT, drawn: FLOAT, half: int) -> NDArray[np.bool_]:
    """The subsets of some rows: a sum ``a`` of the first ``half`` candidates and a sum ``b`` of the rest, ``a`` nearest to ``w - b``."""
    n, split = drawn.shape[1], 1 << half
    sums = np.empty((len(drawn), split + (1 << n - half)))
    _list_sums(sums[:, :split], drawn[:, :half])
    _list_sums(sums[:, split:], -drawn[:, half:])
    sums[:, split:] += wanted[:, None]
    # The last bit of each number says which half it is of, so that a sort of plain numbers, the fastest there is, moves the
    # halves along. Between the nearest a and w - b nothing lies that is not at least as near to one of them: they are neighbours.
    words = sums.view(np.int64)
    words[:, :split] &= -2
    words[:, split:] |= 1
    merged = np.sort(sums, axis=1)
    second = merged.view(np.int64).astype(np.int8) & 1 != 0
    gaps = np.subtract(merged[:, 1:], merged[:, :-1])
    gaps[second[:, 1:] == second[:, :-1]] = np.inf
    place, row = gaps.argmin(1), np.arange(len(drawn))
    low, high, swapped = merged[row, place], merged[row, place + 1], second[row, place]
    a, b = np.where(swapped, high, low), np.where(swapped, low, high)
    left, right = (sums[:, :split] == a[:, None]).argmax(1), (sums[:, split:] == b[:, None]).argmax(1)
    return np.concatenate([_bits(left, half), _bits(right, n - half)], axis=1)


def _list_sums(out: FLOAT, drawn: FLOAT) -> None:
    """All sums of each row's candidates (B, m) into ``out`` (B, 2^m); bit i of a place says whether candidate i is in."""
    out[:, 0] = 0
    for i in range(drawn.shape[1]):
        np.add(out[:, : 1 << i], drawn[:, i : i + 1], out=out[:, 1 << i : 2 << i])


def _bits(places: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (places[:, None] >> np.arange(n)) & 1 != 0
    return found


def _numbers(value: Tensor, what: str, axes: int) -> FLOAT:
    found: FLOAT = tensor(value, what, axes).detach().cpu().double().numpy()
    if not np.isfinite(found).all():
        bad = found[~np.isfinite(found)][0]
        raise RefusedError(f"{what} of a subset sum are finite; got {bad}; train without nan, or clip")
    return found
