"""One bit per weight: masks packed eight to a byte, low bit first; masks of more values as digits, as many to a byte as it holds."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from neuromod.errors import RefusedError
from neuromod.target.sites import Site


def per_byte(base: int) -> int:
    """Digits that a byte holds: 8 bits, 5 of base 3 (for 3^5 <= 256), 4 of base 4."""
    digits = 1
    while base ** (digits + 1) <= 256:
        digits += 1
    return digits


def packed_size(count: int, base: int = 2) -> int:
    """Bytes that hold ``count`` bits, or digits of another base."""
    return -(-count // per_byte(base))


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


def pack_digits(digits: Tensor, base: int) -> Tensor:
    """Pack whole numbers in [0, base), any shape, into uint8 (`packed_size`,), in flat order, the first digit lowest.

    >>> pack_digits(torch.tensor([2, 1, 0, 0, 0, 1]), 3).tolist()
    [5, 1]
    """
    if base == 2:
        return pack(digits)
    flat, width = digits.reshape(-1), per_byte(base)
    padded = torch.zeros(packed_size(flat.numel(), base) * width, dtype=torch.int32, device=digits.device)
    padded[: flat.numel()] = flat.to(torch.int32)
    if not bool(((padded >= 0) & (padded < base)).all()) or not torch.equal(padded[: flat.numel()].to(flat), flat):
        raise RefusedError(f"digits are whole numbers from 0 to {base - 1}; got others; round them first")
    return (padded.view(-1, width) * _powers(base, digits.device)).sum(-1).to(torch.uint8)


def unpack_digits(bits: Tensor, shape: tuple[int, ...], dtype: torch.dtype, base: int) -> Tensor:
    """The digits of `pack_digits` again.

    Args:
        bits: uint8 (bytes,).
        shape: of the digits.
        dtype: of the digits.
        base: as they were packed.

    """
    if base == 2:
        return unpack(bits, shape, dtype)
    every = torch.arange(256, dtype=torch.int32, device=bits.device)
    table = (every.unsqueeze(-1) // _powers(base, bits.device) % base).to(dtype)
    return table.index_select(0, bits.reshape(-1).int()).view(-1)[: math.prod(shape)].reshape(shape)


def refuse_digits(site: Site, raw: Mapping[str, Tensor], base: int) -> None:
    """Refuse a row at rest whose ``bits`` hold no digits of a base."""
    if "bits" in raw and bool((raw["bits"].int() >= base ** per_byte(base)).any()):
        raise RefusedError(
            f"numbers at rest are digits of base {base}; those of {site.name!r} are not; the file is damaged"
        )


def _powers(base: int, device: torch.device) -> Tensor:
    return base ** torch.arange(per_byte(base), dtype=torch.int32, device=device)


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
