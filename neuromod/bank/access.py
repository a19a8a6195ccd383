"""How a bank is read: what is accepted, which path runs, and rows of bytes as 64-bit words."""

import importlib.util
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from neuromod.arguments import shown
from neuromod.bank import plain
from neuromod.bank.planes import Words
from neuromod.errors import RefusedError
from neuromod.kinds.bits import packed_size

Path = Literal["plain", "compiled"]


def check_bits(bits: Tensor, n: int | None = None) -> None:
    """Refuse what is not a bank of packed masks (of ``n`` weights each)."""
    if bits.dtype != torch.uint8 or bits.dim() != 2:
        raise RefusedError(
            f"a bank is uint8 (k, bytes); got {bits.dtype} {tuple(bits.shape)}; stack the rows of neuromod.kinds.bits.pack"
        )
    if n is not None and (n < 0 or packed_size(n) != bits.shape[1]):
        raise RefusedError(
            f"a bank has a bit for each of n weights; got n={n} and {bits.shape[1]} bytes; pass the n that was packed"
        )


def check_numbers(name: str, numbers: Tensor, bits: Tensor) -> None:
    """Refuse numbers that are not floating, not finite, or not where the bank is.

    Args:
        name: what they are called, for the refusal.
        numbers: a tensor of any shape.
        bits: the packed masks that they will meet.

    """
    if not numbers.is_floating_point():
        raise RefusedError(f"{name} must be floating; got {numbers.dtype}; convert it with .float()")
    if numbers.device != bits.device:
        raise RefusedError(
            f"{name} must be on the device of the bank, {bits.device}; got {numbers.device}; move one of them"
        )
    # One pass without a copy; both ends are NaN where any entry is.
    if numbers.numel() and not torch.stack(torch.aminmax(numbers)).isfinite().all():
        where = tuple((~numbers.isfinite()).nonzero()[0].tolist())
        raise RefusedError(
            f"{name} must be finite; got {numbers[where].item()} at {list(where)}; lower the loss or its scale"
        )


def check_path(path: Any) -> None:
    """Refuse a path that is none."""
    if path is not None and (not isinstance(path, str) or path not in ("plain", "compiled")):
        raise RefusedError(
            f"path must be 'plain', 'compiled' or None; got {shown(path)}; None takes the fastest there is"
        )


def kernels(path: Path | None, bits: Tensor, dtype: torch.dtype = torch.float32) -> ModuleType:
    """The module whose loops run: `fast` where numba is installed, on the CPU, in float32 and float64, or else `plain`.

    Refused: the compiled path where it can't run.

    Args:
        path: "plain", "compiled", or None for the fastest that there is.
        bits: the packed masks, whose device counts.
        dtype: of the numbers that they will meet.

    """
    check_path(path)
    here = bits.device.type == "cpu" and dtype in (torch.float32, torch.float64)
    if path == "compiled" and not here:
        raise RefusedError(
            f"the compiled path runs on the CPU in float32 and float64; got {bits.device} {dtype}; leave path out"
        )
    if path == "compiled" and importlib.util.find_spec("numba") is None:
        raise RefusedError(
            "path 'compiled' needs numba; it is not installed; pip install 'neuromod[fast]', or leave path out"
        )
    if path == "plain" or not here or importlib.util.find_spec("numba") is None:
        return plain
    # Not above: importing numba takes a second, and few programs need it.
    from neuromod.bank import fast

    return fast


def rows(bits: Tensor, size: int, *, first: int = 0) -> Iterator[tuple[slice, Words]]:
    """Masks as words, uint64 (rows, ceil(bytes / 8)), a block at a time, and which rows a block holds.

    A bank whose rows are whole words is not copied; others are, block by block, with zeros behind each row.

    Args:
        bits: packed masks, uint8 (k, bytes), on the CPU.
        size: bytes of a block, about.
        first: the row to begin with.

    """
    k, width = bits.shape
    step = max(1, size // max(1, width))
    for start in range(first, k, step):
        part = slice(start, min(k, start + step))
        block = bits[part].contiguous().numpy()
        if width % 8 or block.ctypes.data % 8:
            padded = np.zeros((len(block), packed_size(width) * 8), np.uint8)
            padded[:, :width] = block
            block = padded
        yield part, block.view(np.uint64)
