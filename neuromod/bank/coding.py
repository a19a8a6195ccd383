"""How one mask is written in few bytes: raw bits, a Huffman code of their bytes, a range coder; or what moved since the start.

A mask of ``n`` bits of which a share ``p`` is kept takes at least ``n H(p)`` bits, ``H(p) = -p log2 p - (1-p) log2 (1-p)``,
if its bits are independent (Shannon 1948, theorem 9). Of a mask that training moved little the flips since its seeded start
are sparser than the mask itself.
"""

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromod.errors import RefusedError, nearest
from neuromod.kinds.bits import packed_size

CODINGS = ("smallest", "raw", "entropy")
"""What a user asks for: the smallest code of the standard library, no code, or the smallest of all with a range coder."""
PLAIN = ("raw", "huffman", "entropy", "columns")
CODES = (*PLAIN, *(f"start+{code}" for code in PLAIN))
"""How a blob may be written; after ``start+`` it holds what differs from the task's start."""
PIECE = 1 << 17
"""Bytes or bits that are decoded at a time."""
ONES = np.array([byte.bit_count() for byte in range(256)])


class BlobError(ValueError):
    """A blob that is no mask of this code and size."""


def entropy_bound(mask_bits: bytes, n: int) -> float:
    """``n H(p)`` in bits, ``p`` the share of ones among the first ``n`` bits (the rest of the last byte is 0).

    >>> entropy_bound(bytes([0b00001111]), 8)
    8.0
    """
    p = int(ONES[np.frombuffer(mask_bits, np.uint8)].sum()) / n
    return 0.0 if p in (0, 1) else -n * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


def encode(
    mask_bits: bytes, n: int, start: bytes | None = None, coding: str = "smallest", width: int = 1
) -> tuple[str, bytes]:
    """The code and the blob of a mask: the smallest of those that ``coding`` allows.

    Args:
        mask_bits: the packed mask.
        n: its bits.
        start: the packed bits that the task started at, where they are known: what differs from them may be smaller.
        coding: one of `CODINGS`.
        width: input units, the columns of a weight (out, in), each of which may have a density of its own in the range coder.

    """
    if coding not in CODINGS:
        raise RefusedError(f"coding must be one of {CODINGS}; got {coding!r}; try {nearest(coding, CODINGS, 1)}")
    if len(mask_bits) != packed_size(n):
        raise BlobError(f"{n} bits take {packed_size(n)} bytes; got {len(mask_bits)}")
    # The first of the smallest: raw bits are read without any work.
    return min(_candidates(mask_bits, n, start, coding, width), key=lambda found: len(found[1]))


def decode(code: str, blob: bytes, n: int, start: bytes | None = None, width: int = 1) -> bytes | bytearray:
    """The packed bits of `encode` again. BlobError for a blob that is damaged, too long or too short.

    Args:
        code: one of `CODES`, as `encode` returned it.
        blob: as `encode` returned it.
        n: bits of the mask.
        start: as in `encode`; needed by codes that begin with "start+".
        width: as in `encode`.

    """
    prefix, _, plain = code.rpartition("+")
    if code not in CODES:
        raise BlobError(f"no code is called {code!r}")
    bits = _decoded(plain, blob, n, width)
    if len(bits) != packed_size(n):
        raise BlobError(f"{n} bits take {packed_size(n)} bytes; got {len(bits)}")
    if not prefix:
        return bits
    if start is None:
        raise BlobError(f"{code!r} needs the start of the task")
    return _flips(bits, start)


def _candidates(bits: bytes, n: int, start: bytes | None, coding: str, width: int) -> Iterator[tuple[str, bytes]]:
    yield "raw", bits
    if coding == "raw":
        return
    for prefix, plain in (("", bits), *(() if start is None else (("start+", _flips(bits, start)),))):
        yield f"{prefix}huffman", _huffman(plain)
        if coding == "entropy":
            flat = _unpacked(plain, n)
            yield f"{prefix}entropy", _range_encoded(flat, _level(flat.mean(), 16))
            if 1 < width < n and n % width == 0:
                yield f"{prefix}columns", _range_encoded(flat, _level(flat.reshape(-1, width).mean(0), 8))


def _decoded(plain: str, blob: bytes, n: int, width: int) -> bytes | bytearray:
    if plain == "raw":
        return bytes(blob)
    if plain == "huffman":
        return _inflated(blob, packed_size(n))[0]
    levels, words = _inflated(blob, 2 if plain == "entropy" else width)
    return _range_decoded(np.frombuffer(levels, "<u2" if plain == "entropy" else np.uint8), words, n)


def _flips(bits: bytes | bytearray, start: bytes) -> bytes:
    if len(bits) != len(start):
        raise BlobError(f"a mask and its start have one size; got {len(bits)} and {len(start)} bytes")
    return (np.frombuffer(bits, np.uint8) ^ np.frombuffer(start, np.uint8)).tobytes()


def _unpacked(bits: bytes, n: int) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=n, bitorder="little")


def _huffman(data: bytes) -> bytes:
    """Deflate without matches: bits of a mask repeat nothing, and the search for it costs bytes as well as time."""
    coder = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(data) + coder.flush()


def _inflated(blob: bytes, size: int) -> tuple[bytearray, bytes]:
    """The first ``size`` bytes that a blob holds, exactly, and what follows them; in memory once."""
    coder, data, rest = zlib.decompressobj(), bytearray(), blob
    try:
        # One byte more than it may hold, so that a blob can't fill the memory.
        while not coder.eof and len(data) <= size:
            piece = coder.decompress(rest, min(PIECE, size + 1 - len(data)))
            if not piece and not coder.unconsumed_tail:
                break
            data += piece
            rest = coder.unconsumed_tail
    except zlib.error as error:
        raise BlobError(str(error)) from error
    if not coder.eof or len(data) != size:
        raise BlobError(f"expected {size} bytes in a blob; it holds another number")
    return data, coder.unused_data


def _level(share: Any, bits: int) -> NDArray[Any]:
    """Shares in [0, 1] as integers of ``bits`` bits; `_shares` is their middle again, and never 0 or 1."""
    kind = "<u2" if bits == 16 else np.uint8
    levels: NDArray[Any] = np.minimum(np.asarray(share) * 2**bits, 2**bits - 1).astype(kind)
    return levels.reshape(-1)


def _shares(levels: NDArray[Any], n: int) -> NDArray[np.float64]:
    """A share for each of ``n`` bits."""
    shares = (levels + 0.5) / 2.0 ** (8 * levels.itemsize)
    return np.ascontiguousarray(np.broadcast_to(shares, (n // len(levels), len(levels)))).reshape(-1)


def _range_encoded(flat: NDArray[np.uint8], levels: NDArray[Any]) -> bytes:
    """The densities, deflated, and the words of a range coder (Martin 1979) that expects a one with each density."""
    stream = _constriction()
    coder = stream.queue.RangeEncoder()
    coder.encode(flat.astype(np.int32), stream.model.Bernoulli(perfect=False), _shares(levels, len(flat)))
    words: bytes = coder.get_compressed().astype("<u4").tobytes()
    return zlib.compress(levels.tobytes(), 9) + words


def _range_decoded(levels: NDArray[Any], words: bytes, n: int) -> bytes | bytearray:
    if len(words) % 4 or n % len(levels):
        raise BlobError("a range coder writes whole words, and columns of one length")
    stream, bits = _constriction(), bytearray()
    coder = stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
    shares = _shares(levels, len(levels))
    try:
        # A piece at a time: a number for each bit is 64 times as large as the mask.
        for first in range(0, n, PIECE):
            places = np.arange(first, min(n, first + PIECE)) % len(levels)
            flat = coder.decode(stream.model.Bernoulli(perfect=False), shares[places])
            bits += np.packbits(flat.astype(np.uint8), bitorder="little").tobytes()
    except AssertionError as error:  # the words name an interval that no symbol has
        raise BlobError(str(error)) from error
    return bits


def _constriction() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise RefusedError(
            "masks of code 'entropy' need the package constriction; it is not installed; install neuromod[code]"
        ) from error
    return constriction.stream
