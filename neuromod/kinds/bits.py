"""One bit per weight: masks packed eight to a byte, low bit first."""

import math

import torch
from torch import Tensor

from neuromod.errors import RefusedError


def packed_size(count: int) -> int:
    """Bytes that hold ``count`` bits."""
    return -(-count // 8)


def pack(mask: Tensor) -> Tensor:
    """Pack a mask of 0 and 1 (any shape) into uint8 (ceil(n / 8),), in flat order. Other values are refused.

    >>> pack(torch.tensor([1., 0., 0., 0., 0., 0., 0., 0., 1.])).tolist()
    [1, 1]
    """
    flat = mask.reshape(-1)
    ones = flat != 0
    if mask.dtype != torch.bool and not torch.equal(flat, ones.to(flat.dtype)):
        odd = flat[flat != ones][0].item()
        raise RefusedError(f"a mask is packed from exactly 0 and 1; got {odd}; threshold it first")
    padded = torch.zeros(packed_size(flat.numel()) * 8, dtype=torch.uint8, device=mask.device)
    padded[: flat.numel()] = ones
    weights = 1 << torch.arange(8, dtype=torch.uint8, device=mask.device)
    return (padded.view(-1, 8) * weights).sum(-1, dtype=torch.uint8)


def unpack(bits: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The mask of `pack` again, exactly 0 and 1.

    Args:
        bits: uint8 (bytes,), low bit first.
        shape: of the mask, of at most eight times as many entries.
        dtype: of the mask.

    """
    # The eight ones and zeros of every byte are one entry of a table, a word that is gathered and viewed as bytes: on a
    # CPU three times as fast as a shift for each bit.
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    every = torch.arange(256, dtype=torch.uint8, device=bits.device)
    table = ((every.unsqueeze(-1) >> shifts) & 1).view(torch.int64).squeeze(-1)
    ones = table.index_select(0, bits.reshape(-1).int()).view(torch.uint8)
    return ones[: math.prod(shape)].reshape(shape).to(dtype)


def masked(weight: Tensor, bits: Tensor) -> Tensor:
    """``weight`` times the mask of `pack`, of its shape and dtype."""
    mask = unpack(bits, tuple(weight.shape), weight.dtype)
    # Nobody else holds this mask: where no gradient will ask for it, its memory takes the product.
    return weight * mask if torch.is_grad_enabled() else mask.mul_(weight)
