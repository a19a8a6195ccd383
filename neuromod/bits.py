"""One bit a weight: masks packed eight to a byte, low bit first."""

import math

import torch
from torch import Tensor


def packed_size(count: int) -> int:
    """Bytes that hold ``count`` bits."""
    return -(-count // 8)


def pack(mask: Tensor) -> Tensor:
    """Pack a mask of 0 and 1 (any shape) into uint8 (ceil(n / 8),), in flat order.

    >>> pack(torch.tensor([1., 0., 0., 0., 0., 0., 0., 0., 1.])).tolist()
    [1, 1]
    """
    flat = mask.reshape(-1)
    padded = torch.zeros(packed_size(flat.numel()) * 8, dtype=torch.uint8, device=mask.device)
    padded[: flat.numel()] = flat != 0
    weights = 1 << torch.arange(8, dtype=torch.uint8, device=mask.device)
    return (padded.view(-1, 8) * weights).sum(-1, dtype=torch.uint8)


def unpack(bits: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The mask of `pack` again: (bytes,) uint8 to ``shape``, exactly 0 and 1 in ``dtype``."""
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    ones = (bits.unsqueeze(-1) >> shifts) & 1
    return ones.reshape(-1)[: math.prod(shape)].to(dtype).reshape(shape)
