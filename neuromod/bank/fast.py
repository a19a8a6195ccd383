"""The loops of `plain`, compiled for the processor at hand by numba (the extra ``fast``); one thread."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuromod.bank.lanes import LANES, masked_add, masked_sum, popcount
from neuromod.bank.planes import WORDS, Words

BYTES = 1 << 19  # bytes of mask a call: more rows share a load of the planes, fewer have their next groups in cache
HALVES = 512  # 8,192 weights in units of 16: their numbers stay in a first-level cache

Numbers = NDArray[np.float32] | NDArray[np.float64]


@njit(nogil=True)
def plane_sums(words: Words, planes: Words, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """``sum_p values[p] * |M_i & plane_p|`` in every group of `WORDS` words, int64 (k, groups).

    A group of a mask is loaded from memory once, for all planes.

    Args:
        words: masks (k, w).
        planes: bit planes (P, >= w).
        values: what a bit of each plane is worth (P,).

    """
    k, w = words.shape
    sums = np.zeros((k, -(-w // WORDS)), np.int64)
    for first in range(0, w, WORDS):
        for i in range(k):
            mask = words[i, first : first + WORDS]
            total = 0
            for p in range(len(planes)):
                plane = planes[p, first : first + WORDS]
                count = 0
                for j in range(len(mask)):
                    count += popcount(mask[j] & plane[j])
                total += values[p] * count
            sums[i, first // WORDS] = total
    return sums


@njit(nogil=True)
def intersections(left: Words, right: Words) -> NDArray[np.int64]:
    """Bits that two rows share, ``|A_i & B_j|``: (r, w) and (q, w) to (r, q)."""
    out = np.zeros((len(left), len(right)), np.int64)
    for first in range(0, left.shape[1], WORDS):
        for i in range(len(left)):
            a = left[i, first : first + WORDS]
            for j in range(len(right)):
                b = right[j, first : first + WORDS]
                count = 0
                for t in range(len(a)):
                    count += popcount(a[t] & b[t])
                out[i, j] += count
    return out


@njit(nogil=True)
def dots(halves: NDArray[np.uint16], vector: Numbers) -> Numbers:
    """``<M_i, g>``: bits as (k, h) units of 16, (16 h,) to (k,)."""
    k, h = halves.shape
    out = np.zeros(k, vector.dtype)
    for first in range(0, h, HALVES):
        part = vector[LANES * first : LANES * (first + HALVES)]
        for i in range(k):
            out[i] += masked_sum(halves[i, first : first + HALVES], part)
    return out


@njit(nogil=True)
def superpose(halves: NDArray[np.uint16], alphas: Numbers, out: Numbers) -> None:
    """``out += sum_i alpha_i M_i``.

    Args:
        halves: masks as (k, h) units of 16 bits.
        alphas: (k,).
        out: (16 h,), added to in place.

    """
    k, h = halves.shape
    for first in range(0, h, HALVES):
        part = out[LANES * first : LANES * (first + HALVES)]
        for i in range(k):
            masked_add(halves[i, first : first + HALVES], alphas[i], part)
