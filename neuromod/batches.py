"""How many calls a batch needs whose samples use different rows: one, one a row, or one under `torch.vmap`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neuromod.target.skeleton import Skeleton
from neuromod.target.substitute import Edits


def groups(indices: Sequence[Tensor]) -> list[Tensor] | None:
    """Positions (on the CPU) of the samples that share a row in every index, a tensor for each such set of samples.

    None where all samples do, or without an index: nothing has to be split. ``indices`` are int64 (B,), one for each modulator
    that splits.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for position, key in enumerate(zip(*(index.tolist() for index in indices), strict=True)):
        found.setdefault(key, []).append(position)
    if len(found) <= 1:
        return None
    return [torch.tensor(positions) for positions in found.values()]


def run(
    one: Callable[[list[Any], tuple[Tensor, ...]], Any],
    parts: Sequence[tuple[Any, bool]],
    inputs: tuple[Tensor, ...],
    in_axis: int,
    out_axes: Sequence[int],
) -> Any:
    """Run a batch whose samples may use different rows, in as few calls as are exact: the one place that decides how many.

    One row runs in one call; rows that can fill taps are gathered by index and run in one call too; rows that write weights split
    the batch, one call for each row, put back in order. Narrower outputs (heads of other widths) are padded with -inf.

    Args:
        one: a call: a row of each modulator (a row per sample where they gather) and inputs, to outputs.
        parts: of each modulator its `Rows`, and whether they gather (`composition.gathers`).
        inputs: of the network.
        in_axis: their batch axis.
        out_axes: the batch axis of every tensor of the output.

    """
    split = [rows.index for rows, gathers in parts if not gathers and rows.index is not None and rows.index.ndim]
    pieces = groups(split)
    if pieces is None:
        return one([_take(rows, gathers, None) for rows, gathers in parts], inputs)
    outputs = [
        one(
            [_take(rows, gathers, piece) for rows, gathers in parts],
            tuple(x.index_select(in_axis, piece.to(x.device)) for x in inputs),
        )
        for piece in pieces
    ]
    return _join(outputs, torch.cat(pieces).argsort(), out_axes)


def _take(rows: Any, gathers: bool, positions: Tensor | None) -> Any:
    if rows.index is None or rows.index.ndim == 0:
        return rows.one()
    index = rows.index if positions is None else rows.index[positions.to(rows.index.device)]
    if gathers and len(index) > 1:
        return rows.gathered(index)
    return replace(rows, index=index[:1]).one()


def _join(outputs: list[Any], order: Tensor, axes: Sequence[int]) -> Any:
    leaves = [pytree.tree_leaves(output) for output in outputs]
    joined = []
    for tensors, axis in zip(zip(*leaves, strict=True), axes, strict=True):
        whole = torch.cat(_padded(tensors, axis), axis)
        joined.append(whole.index_select(axis, order.to(whole.device)))
    return pytree.tree_unflatten(joined, pytree.tree_structure(outputs[0]))


def _padded(tensors: Sequence[Tensor], axis: int) -> list[Tensor]:
    width = max(t.shape[-1] for t in tensors)
    if axis in (-1, tensors[0].ndim - 1):
        return list(tensors)
    return [
        t if t.shape[-1] == width else nn.functional.pad(t, (0, width - t.shape[-1]), value=-torch.inf) for t in tensors
    ]


def run_vmapped(
    edits_of: Callable[[list[Any]], Edits],
    skeleton: Skeleton,
    parts: Sequence[tuple[Any, bool]],
    inputs: tuple[Tensor, ...],
    in_axis: int,
    out_axes: Sequence[int],
) -> Any:
    """The same batch in one call with weights built for every sample (memory: batch times weights); for ``Modulated(vmap=True)``.

    Args:
        edits_of: a row of each modulator to its edits.
        skeleton: the network that runs.
        parts: of each modulator its `Rows`; whether they gather plays no role here.
        inputs: of the network.
        in_axis: their batch axis.
        out_axes: the batch axis of every tensor of the output.

    """
    size = inputs[0].shape[in_axis]
    indices = [torch.zeros(size, dtype=torch.long) if r.index is None else r.index.expand(size).cpu() for r, _ in parts]
    keys, inverse = torch.stack(indices).unique(dim=1, return_inverse=True)
    distinct = [rows.gathered(key) for (rows, _), key in zip(parts, keys, strict=True)]
    built = torch.vmap(lambda rows: skeleton.fold(edits_of(rows)))(distinct)
    in_order = torch.equal(inverse, torch.arange(keys.shape[1]))
    edits = built if in_order else {name: v.index_select(0, inverse.to(v.device)) for name, v in built.items()}

    def sample(edits: Edits, *x: Tensor) -> Any:
        output = skeleton.put(edits, tuple(t.unsqueeze(in_axis) for t in x))
        leaves, structure = pytree.tree_flatten(output)
        return pytree.tree_unflatten([t.squeeze(a) for t, a in zip(leaves, out_axes, strict=True)], structure)

    output = torch.vmap(sample, in_dims=(0, *[in_axis] * len(inputs)), randomness="different")(edits, *inputs)
    leaves, structure = pytree.tree_flatten(output)
    return pytree.tree_unflatten([t.movedim(0, a) for t, a in zip(leaves, out_axes, strict=True)], structure)


def run_together(
    edits_of: Callable[[Mapping[str, Any]], Edits],
    skeleton: Skeleton,
    rows: Mapping[str, Mapping[str, Tensor]],
    inputs: tuple[Tensor, ...],
) -> Any:
    """Whole batches of several rows in one call, outputs (T, B, ...): what `Together` trains.

    Args:
        edits_of: a row by modulator to its edits.
        skeleton: the network that runs.
        rows: by modulator, T rows stacked (T, ...).
        inputs: (T, B, ...), the batch of row t at place t.

    """
    edits = torch.vmap(lambda part: skeleton.fold(edits_of(part)))(dict(rows))
    return torch.vmap(lambda edits, *x: skeleton.put(edits, x), randomness="different")(edits, *inputs)
