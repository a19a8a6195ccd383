"""Sums, scores and distances of a bank of packed masks, at one bit of memory traffic for each weight and task.

``bits`` is uint8 (k, ceil(n / 8)): row i holds the mask ``M_i`` of task i in the order of `neuromod.kinds.bits.pack`, and the bits
behind the n-th are 0. Where numba is installed (the extra ``fast``) and the bank is on the CPU, loops are compiled at their
first use; ``path="plain"`` or ``"compiled"`` asks for one. No gradient flows through these functions.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuromod.arguments import count, shown
from neuromod.bank import plain
from neuromod.bank.access import Path, check_bits, check_numbers, kernels, rows
from neuromod.bank.planes import quantise, split, values
from neuromod.errors import RefusedError

FEW = 16  # vectors: beyond, one matrix product with unpacked blocks is faster than a compiled pass for each


@torch.no_grad()
def counts(bits: Tensor) -> Tensor:
    """Kept weights of every task, ``|M_i|``: packed masks (k, bytes) to int64 (k,)."""
    check_bits(bits)
    if bits.device.type == "cpu":
        ones = [np.bitwise_count(words).sum(-1, dtype=np.int64) for _, words in rows(bits, plain.BYTES)]
        return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *ones]))
    out = torch.zeros(len(bits), device=bits.device, dtype=torch.int64)
    for _, mask in plain.columns(bits, 8 * bits.shape[1], torch.float32):
        out += mask.sum(-1, dtype=torch.int64)
    return out


@torch.no_grad()
def mean(bits: Tensor, n: int, dtype: torch.dtype = torch.float32, *, path: Path | None = None) -> Tensor:
    """Share of tasks that keep each weight, ``1/k sum_i M_i``, (n,).

    Args:
        bits: packed masks (k, bytes), one at least.
        n: weights of a mask.
        dtype: of the result; the counts behind it are exact up to 2^24 tasks.
        path: as of `access.kernels`.

    """
    check_bits(bits, n)
    if not len(bits):
        raise RefusedError("a mean is over at least one task; the bank has none; add a task first")
    # Counts of up to 2^24 tasks are exact in float32, and the quotient is rounded once.
    work = torch.float64 if dtype == torch.float64 else torch.float32
    sums = superpose(bits, torch.ones(len(bits), dtype=work, device=bits.device), n, path=path)
    return sums.div_(len(bits)).to(dtype)


@torch.no_grad()
def superpose(bits: Tensor, alphas: Tensor, n: int, *, path: Path | None = None) -> Tensor:
    """``sum_i alpha_i M_i`` in the dtype of ``alphas``, (n,) or (B, n).

    Args:
        bits: packed masks (k, bytes).
        alphas: (k,) or (B, k), finite.
        n: weights of a mask.
        path: as of `access.kernels`.

    """
    check_bits(bits, n)
    check_numbers("alphas", alphas, bits)
    if alphas.dim() not in (1, 2) or alphas.shape[-1] != len(bits):
        raise RefusedError(
            f"alphas have one entry per task, {(len(bits),)}; got {tuple(alphas.shape)}; pass one for each row"
        )
    loops = kernels(path, bits, alphas.dtype)
    if alphas.dim() == 2 and path == "compiled":
        return torch.stack([superpose(bits, row, n, path=path) for row in alphas])
    if loops is plain or alphas.dim() == 2:
        return plain.superpose(bits, alphas, n)
    out = alphas.new_zeros(-(-n // 64) * 64)
    for part, words in rows(bits, loops.BYTES):
        loops.superpose(words.view(np.uint16), alphas[part].contiguous().numpy(), out.numpy())
    return out[:n]


@torch.no_grad()
def project(bits: Tensor, gradient: Tensor, *, planes: int | None = None, path: Path | None = None) -> Tensor:
    """``<M_i, g>`` for every task, (k,) or (B, k), in the dtype of ``gradient``.

    With ``g = dH/dW' * W``, minus this is the one-shot score of a task (Wortsman et al. 2020, section 3.3). Without
    ``planes`` the sum is that of the dtype. With ``planes=P`` in [2, 16] the gradient is rounded to integers of P bits, one
    scale ``s_b`` for each group of 8,192 weights, and ``<M_i, q> = sum_p v_p |M_i & plane_p|`` is counted exactly:

    ``|score - <M_i, g>| <= sum_b |M_i|_b s_b / 2``, ``s_b = max_b |g| / (2^(P - 1) - 1)``, and ``|M_i|_b`` kept in group b,

    up to the rounding of the dtype. Both paths count the same integers, so they agree in every bit. Planes are for few
    gradients and the CPU: elsewhere the exact sum is returned.

    Args:
        bits: packed masks (k, bytes).
        gradient: (n,) or (B, n), finite.
        planes: bits of a gradient; None: exact.
        path: as of `access.kernels`.

    """
    if gradient.dim() not in (1, 2):
        raise RefusedError(f"gradients are (n,) or (B, n); got {tuple(gradient.shape)}; flatten all other axes")
    check_bits(bits, gradient.shape[-1])
    check_numbers("gradient", gradient, bits)
    if planes is not None:
        planes = check_planes(planes)
    vectors = gradient.unsqueeze(0) if gradient.dim() == 1 else gradient
    if planes is None or bits.device.type != "cpu":
        scores = _exact(bits, vectors, path)
    else:
        # A half-precision scale would be rounded by more than the bound allows for.
        wide = vectors if vectors.dtype == torch.float64 else vectors.float()
        scores = wide.new_empty(len(wide), len(bits))
        for score, vector in zip(scores, wide, strict=True):
            score.copy_(_counted(bits, vector, planes, path))
    return scores.to(gradient.dtype).reshape(*gradient.shape[:-1], len(bits))


@torch.no_grad()
def overlap(bits: Tensor, *, path: Path | None = None) -> Tensor:
    """``|M_i & M_j| / |M_i | M_j|`` of every pair: (k, bytes) to (k, k) float32; 1 where both masks are empty."""
    check_bits(bits)
    loops = kernels(path, bits)
    if bits.device.type != "cpu":
        return plain.overlap(bits)
    ones = counts(bits).numpy()
    out = np.empty((len(bits), len(bits)), np.float32)
    for a, left in rows(bits, loops.BYTES):
        for b, right in rows(bits, loops.BYTES, first=a.start):
            both = loops.intersections(left, right)
            either = ones[a, None] + ones[None, b] - both
            out[a, b] = np.where(either > 0, both / np.maximum(either, 1), 1)
            out[b, a] = out[a, b].T
    return torch.from_numpy(out)


@torch.no_grad()
def difference(a: Tensor, b: Tensor) -> int | Tensor:
    """Bits that differ, ``|A xor B|``: two masks (bytes,) to an int, or (k, bytes) twice to (k,) int64, row by row."""
    if a.shape != b.shape or a.dim() not in (1, 2):
        raise RefusedError(
            f"masks are compared in one shape, (bytes,) or (k, bytes); got {tuple(a.shape)}, {tuple(b.shape)}; pack both alike"
        )
    left, right = (a, b) if a.dim() == 2 else (a.unsqueeze(0), b.unsqueeze(0))
    check_bits(left)
    check_bits(right)
    if a.device != b.device:
        raise RefusedError(f"masks are compared on one device; got {a.device} and {b.device}; move one of them")
    differing = counts(left ^ right)
    return differing if a.dim() == 2 else int(differing)


def check_planes(planes: Any) -> int:
    """The bits of a rounded gradient, 2 to 16."""
    try:
        return count(planes, "planes", least=2, most=16)
    except RefusedError:
        raise RefusedError(
            f"planes must be in [2, 16]; got {shown(planes)}; pass bits of a gradient, or None for the exact sum"
        ) from None


def _exact(bits: Tensor, vectors: Tensor, path: Path | None) -> Tensor:
    """``<M_i, g_b>``: (k, bytes) and (B, n) to (B, k), in the dtype of the vectors."""
    chosen = "plain" if path is None and len(vectors) > FEW else path
    loops = kernels(chosen, bits, vectors.dtype)
    if loops is plain:
        return plain.dots(bits, vectors)
    padded = vectors.new_zeros(len(vectors), -(-vectors.shape[1] // 64) * 64)
    padded[:, : vectors.shape[1]] = vectors
    scores = vectors.new_empty(len(vectors), len(bits))
    for part, words in rows(bits, loops.BYTES):
        for score, vector in zip(scores, padded, strict=True):
            score[part] = torch.from_numpy(loops.dots(words.view(np.uint16), vector.numpy()))
    return scores


def _counted(bits: Tensor, vector: Tensor, planes: int, path: Path | None) -> Tensor:
    """``sum_b s_b <M_i, q>_b`` of one vector: (k, bytes) and (n,) to (k,) float64."""
    loops = kernels(path, bits)
    integers, scales = quantise(vector, planes)
    packed = split(integers, planes)
    sums = np.empty((len(bits), len(scales)), np.int64)
    for part, words in rows(bits, loops.BYTES):
        sums[part] = loops.plane_sums(words, packed, values(planes))
    return torch.from_numpy(sums).double() @ scales.double()
