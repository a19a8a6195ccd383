"""How one packed mask is written in few bytes: as it is, by Huffman codes, or as its difference from a seeded start."""

import math
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuromod.errors import RefusedError

RAW, DEFLATE, FLIPS = "raw", "deflate", "flips"
ENTROPY, FLIPS_ENTROPY = "entropy", "flips-entropy"
CODES = (RAW, DEFLATE, FLIPS, ENTROPY, FLIPS_ENTROPY)
CODINGS = ("raw", "smallest", "entropy")


def entropy_bound(kept: int, n: int) -> float:
    """Bits that any code for n independent bits needs, ``n H(kept / n)``, ``H(p) = -p log2 p - (1 - p) log2 (1 - p)``."""
    p = kept / n
    return 0.0 if p in (0, 1) else n * (-p * math.log2(p) - (1 - p) * math.log2(1 - p))


def encode(bits: Tensor, start: Tensor | None, coding: str = "smallest") -> tuple[str, bytes]:
    """A packed mask (bytes,) as the name of a code and its bytes.

    ``"raw"``: as it is. ``"smallest"``: the shortest of raw, Huffman codes of its bytes, and, with a ``start`` (the packed
    mask that its scores started from, which can be drawn again), Huffman codes of the bits that differ. ``"entropy"``: that,
    or a range code of independent bits with one density, which needs the package ``constriction``.
    """
    if coding not in CODINGS:
        raise RefusedError(f"coding must be one of {CODINGS}; got {coding!r}; correct it")
    tried = {RAW: bits.numpy().tobytes()}
    if coding != "raw":
        flips = None if start is None else bits ^ start
        tried |= {DEFLATE: _huffman(bits)} | ({} if flips is None else {FLIPS: _huffman(flips)})
        if coding == "entropy":
            tried |= {ENTROPY: _ranged(bits)} | ({} if flips is None else {FLIPS_ENTROPY: _ranged(flips)})
    name = min(tried, key=lambda code: len(tried[code]))
    return name, tried[name]


def decode(code: str, data: Tensor, size: int, start: Tensor | None) -> Tensor:
    """The packed mask (size,) of `encode`; ``data`` is uint8."""
    if code not in CODES:
        raise RefusedError(
            f"a mask has one of the codes {CODES}; got {code!r}; the file is of another version, or damaged"
        )
    if code in (FLIPS, FLIPS_ENTROPY) and start is None:
        raise RefusedError(
            f"the code {code!r} is the difference from a seeded start; the source has none; store it raw"
        )
    if code == RAW:
        bits = data
    elif code in (DEFLATE, FLIPS):
        bits = _inflated(data, size)
    else:
        bits = _unranged(data, size)
    if bits.numel() != size:
        raise RefusedError(f"a mask has {size} bytes; got {bits.numel()}; the file is damaged: restore it")
    return bits if code in (RAW, DEFLATE, ENTROPY) or start is None else bits ^ start


def _huffman(bits: Tensor) -> bytes:
    # Nothing repeats in a random mask: without the search for repetitions deflate is faster, and shorter.
    coder = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(bits.numpy().tobytes()) + coder.flush()


def _inflated(data: Tensor, size: int) -> Tensor:
    coder = zlib.decompressobj()
    try:
        # One byte more than there can be, so that a damaged file can't fill the memory.
        plain = coder.decompress(data.numpy().tobytes(), size + 1)
    except zlib.error as error:
        raise RefusedError(f"a coded mask must decompress; got {error}; the file is damaged: restore it") from error
    return torch.frombuffer(bytearray(plain), dtype=torch.uint8) if plain else torch.empty(0, dtype=torch.uint8)


def _ranged(bits: Tensor) -> bytes:
    coding = _constriction()
    ones = np.unpackbits(bits.numpy()).astype(np.int32)
    share = float(np.clip(ones.mean(), 1e-6, 1 - 1e-6))
    coder = coding.queue.RangeEncoder()
    coder.encode(ones, coding.model.Bernoulli(share, perfect=False))
    return np.float64(share).tobytes() + bytes(coder.get_compressed().astype("<u4").tobytes())


def _unranged(data: Tensor, size: int) -> Tensor:
    coding, raw = _constriction(), data.numpy().tobytes()
    if len(raw) % 4 or len(raw) < 8:
        raise RefusedError(
            f"a range code has 8 bytes and whole words; got {len(raw)} bytes; the file is damaged: restore it"
        )
    share = float(np.frombuffer(raw[:8], np.float64)[0])
    if not 0 < share < 1:
        raise RefusedError(f"a range code has a density in (0, 1); got {share}; the file is damaged: restore it")
    coder = coding.queue.RangeDecoder(np.frombuffer(raw[8:], "<u4").astype(np.uint32))
    ones = coder.decode(coding.model.Bernoulli(share, perfect=False), 8 * size)
    return torch.from_numpy(np.packbits(ones.astype(np.uint8)))


def _constriction() -> Any:
    try:
        import constriction.stream as coding
    except ImportError as error:
        raise RefusedError(
            "range codes need the package constriction; it is not installed; pip install 'neuromod[code]'"
        ) from error
    return coding
