"""States of many reservoirs on many sequences in one batched call, in the form that is cheapest for their weights."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import shown
from neuromod.errors import RefusedError
from neuromod.reservoirs.network import Reservoir, check_inputs, check_start, finite, finite_start

SPARSE = 0.25
"""The share of weights up to which a product of sparse matrices is the faster one (measured at 16 reservoirs of 200 units)."""

CHUNK = 128
"""Steps whose inputs are weighted at once: as many as stay in the cache until they are used."""


@torch.no_grad()
def states(
    reservoirs: Reservoir | Sequence[Reservoir], inputs: Tensor | Sequence[Tensor], start: Tensor | None = None
) -> Tensor:
    """The states (R, B, T, N) of R reservoirs of one size on B sequences of T steps; without gradients.

    Rings are rolled, sparse weights are one block-diagonal product a step, others one `torch.baddbmm`. What a modulation does to
    a reservoir is not seen here: call the model (`unroll`), or `bake` first what acts on weights.

    Refused: sequences of different lengths, NaN, reservoirs of different sizes or dtypes.

    Args:
        reservoirs: one, or several with the same units, inputs and dtype.
        inputs: (B, T, D) for all reservoirs alike, (R, B, T, D), or B sequences (T, D) in a list.
        start: states (R, B, N) before the first step; zeros where None.

    """
    nets = _same([reservoirs] if isinstance(reservoirs, Reservoir) else reservoirs)
    units, channels, dtype = nets[0].units, nets[0].inputs, nets[0].input.weight.dtype
    u = finite(check_inputs(stacked(inputs), channels, 3, 4), "inputs of a reservoir").to(nets[0].input.weight)
    if u.ndim == 4 and len(u) != len(nets):
        raise RefusedError(f"inputs (R, B, T, D) are for R reservoirs; got {len(u)} for {len(nets)}; match them")
    u = u.expand(len(nets), *u.shape[-3:])
    shape = torch.Size((len(nets), u.shape[1], units))
    x = u.new_zeros(shape) if start is None else _start(start, shape).to(u)
    leak = torch.tensor([net.leak for net in nets], dtype=dtype, device=u.device)[:, None, None]
    recur = _recurrence(torch.stack([net.recurrent.weight for net in nets]), shape)
    leaks = any(net.leak != 1 for net in nets)
    # (T, R, B, N): a step is one block of memory.
    found = u.new_empty(u.shape[2], *shape)
    given = (step for part in u.split(CHUNK, 2) for step in _driven(nets, part))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        for out, step in zip(found, given, strict=True):
            fired = torch.tanh(recur(step, x), out=out)
            x = torch.lerp(x, fired, leak, out=out) if leaks else fired
    return found.permute(1, 2, 0, 3)


def _driven(nets: Sequence[Reservoir], u: Tensor) -> Tensor:
    """``W_in u + b`` (T, R, B, N) of inputs (R, B, T, D)."""
    weights, bias = (torch.stack([getattr(net.input, name) for net in nets]) for name in ("weight", "bias"))
    if u.stride(0) == 0:  # inputs that all reservoirs share: one product, in the order of its use
        shared: Tensor = (u[0].transpose(0, 1) @ weights.flatten(0, 1).mT).add_(bias.flatten())
        return shared.view(*shared.shape[:2], *bias.shape).transpose(1, 2).contiguous()
    return (torch.einsum("rbtd,rnd->trbn", u, weights) + bias[:, None]).contiguous()


def _recurrence(weights: Tensor, shape: torch.Size) -> Callable[[Tensor, Tensor], Tensor]:
    """``f(step, x) = step + W x`` for states (R, B, N), by the cheapest form of the stacked weights (R, N, N)."""
    ring = torch.diagonal(weights.roll(-1, 1), dim1=1, dim2=2)
    if int((weights != 0).sum()) == int((ring != 0).sum()):
        # x[i] hears x[i - 1] alone.
        around = ring.roll(1, 1)[:, None]
        return lambda step, x: torch.addcmul(step, around, x.roll(1, -1))
    dense = float((weights != 0).double().mean()) > SPARSE or weights.device.type != "cpu"
    if dense or shape[1] > 1:
        transposed = weights.mT.contiguous()
        return lambda step, x: torch.baddbmm(step, x, transposed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        blocks = _blocks(weights)
    return lambda step, x: torch.addmv(step.view(-1), blocks, x.reshape(-1)).view(shape)


def _blocks(weights: Tensor) -> Tensor:
    """The matrix (R N, R N) with the matrices (R, N, N) on its diagonal, compressed by rows; the zeros are never built."""
    reservoirs, units, _ = weights.shape
    place, row, column = weights.nonzero(as_tuple=True)
    ends = torch.bincount(place * units + row, minlength=reservoirs * units).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])
    size = (reservoirs * units, reservoirs * units)
    # Whole numbers of 32 bits are what the library below works on: others are converted at every product.
    columns, values = (place * units + column).int(), weights[place, row, column]
    return torch.sparse_csr_tensor(starts.int(), columns, values, size, check_invariants=True)


def stacked(sequences: Any) -> Tensor:
    """Sequences (T, D) in a list as one tensor (B, T, D); a tensor as it is. Refused: sequences of different lengths."""
    if isinstance(sequences, Tensor):
        return sequences
    if not isinstance(sequences, Sequence) or not sequences or not all(isinstance(s, Tensor) for s in sequences):
        raise RefusedError(f"sequences come as a tensor or a list of tensors; got {shown(sequences)}; pass one")
    if any(s.shape != sequences[0].shape for s in sequences):
        shapes = ", ".join(str(tuple(s.shape)) for s in sequences[:4])
        raise RefusedError(
            f"sequences of one batch have one length; got {shapes}; cut them to the shortest, or run them one by one"
        )
    return torch.stack(list(sequences))


def _same(nets: Any) -> list[Reservoir]:
    if not isinstance(nets, Sequence) or not nets or not all(isinstance(net, Reservoir) for net in nets):
        raise RefusedError(f"states are those of reservoirs; got {shown(nets)}; pass a Reservoir, or a list of them")
    forms = [(net.units, net.inputs, net.input.weight.dtype) for net in nets]
    odd = next((form for form in forms if form != forms[0]), None)
    if odd is not None:
        raise RefusedError(
            f"reservoirs of one call have one number of units and inputs, and one dtype; got {forms[0]} and {odd}; call them apart"
        )
    return list(nets)


def _start(start: Any, shape: torch.Size) -> Tensor:
    return finite_start(check_start(start, shape, "(R, B, N)"))
