"""A vector as integers of few bits, and those as bit planes packed like the masks they will be compared with."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Weights that share a scale: 128 words of mask, and 8 planes of them stay in a first-level cache.
GROUP = 8192
WORDS = GROUP // 64

Words = NDArray[np.uint64]
Integers = NDArray[np.int8] | NDArray[np.int16]


def quantise(vector: Tensor, planes: int) -> tuple[Integers, Tensor]:
    """``q_j = round(g_j / s_b)`` in ``planes`` bits, and the scales ``s_b = max_b |g| / (2^(planes - 1) - 1)``.

    (n,) to integers (groups * GROUP,), padded with 0, and scales (groups,) of the vector's dtype. ``|g_j - s_b q_j|`` is at
    most ``s_b / 2 + u |g_j|``, with u the dtype's unit roundoff. Groups have scales of their own so that one layer's large
    gradients, or one large entry, leave the others alone.
    """
    groups = -(-len(vector) // GROUP)
    padded = vector.new_zeros(groups * GROUP)
    padded[: len(vector)] = vector
    grouped = padded.view(groups, GROUP)
    largest = torch.maximum(grouped.amax(-1), -grouped.amin(-1))
    # Not below the smallest normal number, so that the quotient is never infinite and a group of zeros stays zero.
    scales = (largest / (2 ** (planes - 1) - 1)).clamp_(min=torch.finfo(vector.dtype).tiny)
    quotients = torch.div(grouped, scales.unsqueeze(-1), out=grouped).round_()
    return quotients.view(-1).to(torch.int8 if planes <= 8 else torch.int16).numpy(), scales


def values(planes: int) -> NDArray[np.int64]:
    """What a bit of each plane is worth: ``1, 2, 4, ...`` and ``-2^(planes - 1)`` for the last, as in two's complement."""
    worth = 1 << np.arange(planes, dtype=np.int64)
    worth[-1] *= -1
    return worth


def split(integers: Integers, planes: int) -> Words:
    """Bit p of every integer as row p of (planes, n / 64) words, low bit first: ``q_j = sum_p values[p] * bit_pj``."""
    octets = integers.view(np.uint8).reshape(-1, integers.itemsize)
    rows = np.empty((planes, len(octets) // 8), np.uint8)
    low, gather, top = np.uint64(0x0101010101010101), np.uint64(0x0102040810204080), np.uint64(56)
    for p in range(planes):
        if p % 8 == 0:
            eights = np.ascontiguousarray(octets[:, p // 8]).view(np.uint64)
        # Eight integers in a word: the low bit of byte i lands at bit 56 + i of the product, and nothing carries.
        rows[p] = ((eights >> np.uint64(p % 8) & low) * gather) >> top
    return rows.view(np.uint64)
