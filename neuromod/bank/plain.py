"""Popcounts of words in numpy, and products with masks unpacked a block of columns at a time in torch."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromod.bank.planes import WORDS, Words

BYTES = 1 << 19  # bytes of mask that are counted together: they and their counts stay in a second-level cache


def plane_sums(words: Words, planes: Words, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """``sum_p values[p] * |M_i & plane_p|`` in every group of `WORDS` words, int64 (k, groups).

    Args:
        words: masks (k, w).
        planes: bit planes (P, >= w).
        values: what a bit of each plane is worth (P,).

    """
    k, w = words.shape
    groups = -(-w // WORDS)
    both = np.empty((k, w), np.uint64)
    counts = np.zeros((k, groups * WORDS), np.uint8)
    sums = np.zeros((k, groups), np.int64)
    for plane, value in zip(planes, values, strict=True):
        np.bitwise_and(words, plane[:w], out=both)
        np.bitwise_count(both, out=counts[:, :w])
        # 16 bits hold the 8,192 that a group can count, and numpy adds them faster than wider ones.
        sums += value * counts.reshape(k, groups, WORDS).sum(-1, dtype=np.uint16).astype(np.int64)
    return sums


def intersections(left: Words, right: Words) -> NDArray[np.int64]:
    """Bits that two rows share, ``|A_i & B_j|``: (r, w) and (q, w) to (r, q)."""
    out = np.empty((len(left), len(right)), np.int64)
    for i, row in enumerate(left):
        out[i] = np.bitwise_count(right & row).sum(-1, dtype=np.int64)
    return out


def columns(bits: Tensor, n: int, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of weights and their masks (k, weights) of 0 and 1, small enough to stay near the processor.

    Args:
        bits: packed masks (k, bytes).
        n: weights of a mask.
        dtype: of the unpacked masks.

    """
    here = bits.device.type == "cpu"
    # A million numbers fit a cache; a device with its own memory is better served by fewer and larger blocks.
    width = max(1, (1 << (20 if here else 27)) // (8 * max(1, len(bits))))
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    for first in range(0, bits.shape[1], width):
        block = bits[:, first : first + width]
        if here:  # four times as fast as shifts
            ones = torch.from_numpy(np.unpackbits(block.numpy(), axis=1, bitorder="little"))
        else:
            ones = (block.unsqueeze(-1) >> shifts & 1).flatten(1)
        part = slice(8 * first, min(n, 8 * (first + width)))
        yield part, ones[:, : part.stop - part.start].to(dtype)


def dots(bits: Tensor, vectors: Tensor) -> Tensor:
    """``<M_i, g_b>``: (k, bytes) and (B, n) to (B, k), in the dtype of the vectors."""
    out = vectors.new_zeros(len(bits), len(vectors))
    for part, mask in columns(bits, vectors.shape[1], vectors.dtype):
        out.addmm_(mask, vectors[:, part].T)
    return out.T


def superpose(bits: Tensor, alphas: Tensor, n: int) -> Tensor:
    """``sum_i alpha_i M_i``, (n,) or (B, n).

    Args:
        bits: packed masks (k, bytes).
        alphas: (k,) or (B, k).
        n: weights of a mask.

    """
    out = alphas.new_empty(*alphas.shape[:-1], n)
    for part, mask in columns(bits, n, alphas.dtype):
        out[..., part] = alphas @ mask
    return out


def overlap(bits: Tensor) -> Tensor:
    """``|M_i & M_j| / |M_i | M_j|`` by products, for devices that have no popcount of words: (k, bytes) to (k, k)."""
    both = torch.zeros(len(bits), len(bits), dtype=torch.float64, device=bits.device)
    for _, mask in columns(bits, 8 * bits.shape[1], torch.float32):
        both += mask @ mask.T  # counts below 2^24: exact in float32
    ones = both.diagonal()
    either = ones.unsqueeze(1) + ones - both
    return torch.where(either > 0, both / either.clamp(min=1), 1.0).float()
