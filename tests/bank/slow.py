"""Banks whose masks are known, and the sum that a score is, in the order of the equation."""

import math

import torch
from torch import Tensor

from neuromod.bank.planes import GROUP
from neuromod.kinds.bits import pack

PATHS = ("plain", "compiled")
# Bits that end within a byte, a word, a block of sixteen, a group; and rows that are, or are not, whole words.
SIZES = (1, 7, 64, 100, 1000, GROUP, GROUP + 1, 2 * GROUP + 100)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bank(k: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Masks (k, n) of 0 and 1, of densities that differ, and the same packed."""
    masks = (draw(k, n, seed=seed) < torch.linspace(-1, 1, k, dtype=torch.float64).unsqueeze(-1)).double()
    rows = [pack(mask) for mask in masks]
    return masks, torch.stack(rows) if rows else torch.zeros(0, -(-n // 8), dtype=torch.uint8)


def heavy(n: int, seed: int = 1) -> Tensor:
    """A gradient with heavy tails, as gradients are."""
    return draw(n, seed=seed) * draw(n, seed=seed + 1).exp()


def slow_product(masks: Tensor, vector: Tensor) -> Tensor:
    """<M_i, g> = sum_j M_ij g_j."""
    sums = [math.fsum(g for m, g in zip(mask, vector.tolist(), strict=True) if m) for mask in masks.tolist()]
    return torch.tensor(sums, dtype=torch.float64)
