"""Masks in few bytes: what is written is read again, near the entropy bound, and damage is noticed."""

import math
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromod import RefusedError
from neuromod.bank.coding import CODES, CODINGS, BlobError, decode, encode, entropy_bound
from neuromod.kinds.bits import pack, packed_size

try:
    import constriction
except ImportError:
    constriction = None

N, WIDTH = 235_200, 784
HELD = [c for c in CODINGS if constriction is not None or c != "entropy"]
optional = pytest.mark.skipif(constriction is None, reason="the range coder is an optional package")


def mask(density: float, n: int = N, seed: int = 0) -> bytes:
    drawn = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < density
    return pack(drawn).numpy().tobytes()


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def slow_bound(bits: list[int]) -> float:
    """The sum of -log2 of the share of each bit's value."""
    return sum(-math.log2(bits.count(bit) / len(bits)) for bit in bits)


@pytest.mark.parametrize("coding", HELD)
@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize(("n", "width"), [(1, 1), (7, 7), (8, 1), (63, 9), (1000, 50), (1001, 1)])
def test_a_mask_comes_back(coding: str, density: float, n: int, width: int) -> None:
    bits, start = mask(density, n), mask(0.5, n, seed=1)
    for given_start in (None, start):
        code, blob = encode(bits, n, given_start, coding, width)
        assert code in CODES
        assert len(blob) <= packed_size(n)
        assert decode(code, blob, n, given_start, width) == bits


@given(st.lists(st.integers(0, 1), min_size=1, max_size=200))
def test_the_bound_is_the_entropy(bits: list[int]) -> None:
    packed = pack(torch.tensor(bits)).numpy().tobytes()
    assert entropy_bound(packed, len(bits)) == pytest.approx(slow_bound(bits), abs=1e-9)


@pytest.mark.parametrize("density", [0.05, 0.1, 0.3, 0.5])
def test_the_standard_library_comes_near_the_bound(density: float) -> None:
    bits = mask(density)
    _, blob = encode(bits, N)
    assert 8 * len(blob) <= 1.06 * entropy_bound(bits, N)


@optional
@pytest.mark.parametrize("density", [0.05, 0.1, 0.3, 0.5])
def test_the_range_coder_comes_nearer(density: float) -> None:
    bits = mask(density)
    code, blob = encode(bits, N, coding="entropy")
    assert 8 * len(blob) <= 1.01 * entropy_bound(bits, N)
    assert decode(code, blob, N) == bits


def test_raw_is_raw() -> None:
    bits = mask(0.05)
    assert encode(bits, N, coding="raw") == ("raw", bits)


@pytest.mark.parametrize("coding", [c for c in HELD if c != "raw"])
def test_what_moved_since_the_start_is_sparser(coding: str) -> None:
    start = mask(0.5, seed=1)
    flips = mask(0.1)
    code, blob = encode(xor(start, flips), N, start, coding, 1)
    assert code.startswith("start+")
    assert 8 * len(blob) <= 1.03 * entropy_bound(flips, N)
    assert decode(code, blob, N, start) == xor(start, flips)
    with pytest.raises(BlobError, match="needs the start"):
        decode(code, blob, N)


@optional
def test_columns_that_never_flip_cost_nothing() -> None:
    """Border pixels of permuted images: a third of the columns holds no one, the rest a fifth."""
    rng = np.random.default_rng(0)
    drawn = (rng.random((300, WIDTH)) < 0.2) & (np.arange(WIDTH) % 3 > 0)
    bits = np.packbits(drawn.reshape(-1), bitorder="little").tobytes()
    code, blob = encode(bits, N, coding="entropy", width=WIDTH)
    assert code == "columns"
    columns = sum(entropy_bound(np.packbits(c, bitorder="little").tobytes(), 300) for c in drawn.T)
    assert 8 * len(blob) <= 1.04 * columns < 0.95 * entropy_bound(bits, N)
    assert decode(code, blob, N, width=WIDTH) == bits


def test_a_blob_of_another_length() -> None:
    bits = mask(0.05, 1000)
    blob = encode(bits, 1000)[1]
    for cut in range(len(blob)):
        with pytest.raises(BlobError):
            decode("huffman", blob[:cut], 1000)
    for n in (900, 1100):
        with pytest.raises(BlobError, match="bytes in a blob"):
            decode("huffman", blob, n)
    with pytest.raises(BlobError, match="125 bytes; got 126"):
        decode("raw", bits + b"\0", 1000)
    with pytest.raises(BlobError, match="one size"):
        decode("start+raw", bits, 1000, b"\0")
    with pytest.raises(BlobError, match="'zip'"):
        decode("zip", blob, 1000)
    with pytest.raises(BlobError, match="125 bytes; got 1"):
        encode(b"\0", 1000)


def test_a_blob_can_not_fill_the_memory() -> None:
    with pytest.raises(BlobError, match="125 bytes in a blob"):
        decode("huffman", zlib.compress(bytes(10**8)), 1000)


@optional
def test_words_of_a_range_coder_that_are_no_words() -> None:
    code, blob = encode(mask(0.05), N, coding="entropy")
    with pytest.raises(BlobError, match="whole words"):
        decode(code, blob[:-1], N)
    assert decode(code, blob[:-400], N) != mask(0.05)  # which the SHA-256 of a task tells


def test_a_coding_that_is_unknown() -> None:
    with pytest.raises(RefusedError, match="got 'smalest'; try 'smallest'"):
        encode(b"\0", 8, coding="smalest")


def test_without_the_range_coder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    blob = zlib.compress(b"\0\x80") + bytes(4)
    for act in (lambda: encode(mask(0.1), N, coding="entropy"), lambda: decode("entropy", blob, 8)):
        with pytest.raises(RefusedError, match=r"\A[^\n]*need the package constriction[^\n]*neuromod\[code\]\Z"):
            act()
