"""How many calls a batch needs whose samples use different rows: one, one a row, or one under `torch.vmap`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.target.probe import Call
from neuromod.target.samples import Axes, size_of, taken
from neuromod.target.skeleton import Skeleton
from neuromod.target.structure import Path, leaves, replaced, tensors
from neuromod.target.substitute import Edits
from neuromod.target.taps import FoldedError


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


# reason: what a call is made of, each said by another
def run(
    one: Callable[[list[Any], tuple[Tensor, ...]], Any],
    parts: Sequence[tuple[Any, bool]],
    inputs: tuple[Tensor, ...],
    axes: Axes,
    outputs: Mapping[Path, Call],
    *,
    width: int | None = None,
    again: bool = True,
) -> Any:
    """Run a batch whose samples may use different rows, in as few calls as are exact: the one place that decides how many.

    One row runs in one call; rows that can fill taps are gathered by index and run in one call too; rows that write weights split
    the batch, one call for each row, put back in order. A gathered call in which a tap meets rows that are not the samples (frames
    that are folded into the batch, some samples of it) is split as well.

    Refused: outputs of split calls that cannot be put together.

    Args:
        one: a call: a row of each modulator (a row per sample where they gather) and inputs, to outputs.
        parts: of each modulator its `Rows`, and whether they gather (`composition.gathers`).
        inputs: of the network.
        axes: the batch axis of each input.
        outputs: every tensor of the output by path, as the probe found it.
        again: whether a call that met rows which are not the samples is made again, split; not where it has measured something.
        width: of the target's head, where tasks have heads of other widths: narrower ones are padded with -inf.

    """
    pieces = groups(
        [rows.index for rows, gathers in parts if not gathers and rows.index is not None and rows.index.ndim]
    )
    if pieces is None:
        try:
            return one([_take(rows, gathers) for rows, gathers in parts], inputs)
        except FoldedError:
            if not again:
                raise
            return run(one, [(rows, False) for rows, _ in parts], inputs, axes, outputs, width=width)
    found = []
    for piece in pieces:
        apart = [(_at(rows, piece, gathers), gathers) for rows, gathers in parts]
        found.append(run(one, apart, taken(inputs, axes, piece), axes, outputs, width=width, again=again))
    return _join(found, pieces, outputs, width)


def _at(rows: Any, positions: Tensor, gathers: bool) -> Any:
    """The rows of the samples at these positions, which share one where they were split by it."""
    if rows.index is None or rows.index.ndim == 0:
        return rows
    index = rows.index[positions.to(rows.index.device)]
    return replace(rows, index=index if gathers else index[0])


def _take(rows: Any, gathers: bool) -> Any:
    if rows.index is None or rows.index.ndim == 0:
        return rows.one()
    if gathers and len(rows.index) > 1:
        return rows.gathered(rows.index)
    return replace(rows, index=rows.index[:1]).one()


def _join(pieces: list[Any], positions: list[Tensor], outputs: Mapping[Path, Call], width: int | None) -> Any:
    """The outputs of split calls as that of one, samples in their order."""
    found = [dict(leaves(piece)) for piece in pieces]
    if any(piece.keys() != found[0].keys() for piece in found):
        raise RefusedError(
            "a split batch needs outputs of one form; those of its tasks have other parts; call the tasks one by one"
        )
    joined = {}
    for path, leaf in found[0].items():
        parts = [piece[path] for piece in found]
        if isinstance(leaf, Tensor):
            joined[path] = _joined(parts, positions, path, outputs.get(path), width)
        elif not all(_alike(leaf, other) for other in parts):
            raise RefusedError(
                f"a split batch puts tensors together; {_shown(path)} is a {type(leaf).__name__} that differs between tasks; call "
                "the tasks one by one"
            )
    return replaced(pieces[0], joined)


def _joined(parts: list[Tensor], positions: list[Tensor], path: Path, seen: Call | None, width: int | None) -> Tensor:
    axis, order = None if seen is None else seen.batch, torch.cat(positions).argsort()
    if seen is not None and axis is not None:
        parts = [_unsqueezed(part, len(rows), seen, axis) for part, rows in zip(parts, positions, strict=True)]
    if seen is None or axis is None or axis >= parts[0].ndim:
        if all(torch.equal(part, parts[0]) for part in parts):
            return parts[0]
        raise RefusedError(
            f"a split batch needs outputs whose rows are the samples; those of {_shown(path)} are not; call the tasks one by one"
        )
    if width is not None and seen.shape[-1] == width and axis != len(seen.shape) - 1:
        parts = _padded(parts)
    if any(
        part.shape[:axis] + part.shape[axis + 1 :] != parts[0].shape[:axis] + parts[0].shape[axis + 1 :]
        for part in parts
    ):
        shapes = ", ".join(str(tuple(part.shape)) for part in parts[:4])
        raise RefusedError(
            f"a split batch needs outputs of one shape; {_shown(path)} is {shapes} for its tasks; pad the inputs to one length"
        )
    sizes = sum(part.shape[axis] for part in parts)
    if sizes != len(order):
        raise RefusedError(
            f"a split batch needs an output row per sample; {_shown(path)} has {sizes} rows for {len(order)} samples; call the "
            "tasks one by one"
        )
    whole = torch.cat(parts, axis)
    return whole.index_select(axis, order.to(whole.device))


def _unsqueezed(part: Tensor, size: int, seen: Call, axis: int) -> Tensor:
    """An output of one sample whose batch axis the network has squeezed away."""
    lost = size == 1 and part.ndim == len(seen.shape) - 1 and (part.ndim <= axis or part.shape[axis] != 1)
    return part.unsqueeze(axis) if lost else part


def _alike(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and (not isinstance(a, bool | int | float | str | bytes) or a == b))


def _shown(path: Path) -> str:
    return "output " + ".".join(map(str, path)) if path else "the output"


def _padded(tensors: Sequence[Tensor]) -> list[Tensor]:
    width = max(t.shape[-1] for t in tensors)
    return [
        t if t.shape[-1] == width else nn.functional.pad(t, (0, width - t.shape[-1]), value=-torch.inf) for t in tensors
    ]


# reason: as of run
def run_vmapped(
    edits_of: Callable[[list[Any]], Edits],
    skeleton: Skeleton,
    parts: Sequence[tuple[Any, bool]],
    inputs: tuple[Tensor, ...],
    axes: Axes,
    outputs: Mapping[Path, Call],
) -> Any:
    """The same batch in one call with weights built for every sample (memory: batch times weights); for ``Modulated(vmap=True)``.

    Args:
        edits_of: a row of each modulator to its edits.
        skeleton: the network that runs.
        parts: of each modulator its `Rows`; whether they gather plays no role here.
        inputs: of the network.
        axes: the batch axis of each input.
        outputs: every tensor of the output by path, as the probe found it.

    """
    size = size_of(inputs, axes)
    indices = [torch.zeros(size, dtype=torch.long) if r.index is None else r.index.expand(size).cpu() for r, _ in parts]
    keys, inverse = torch.stack(indices).unique(dim=1, return_inverse=True)
    distinct = [rows.gathered(key) for (rows, _), key in zip(parts, keys, strict=True)]
    built = torch.vmap(lambda rows: skeleton.fold(edits_of(rows)))(distinct)
    in_order = torch.equal(inverse, torch.arange(keys.shape[1]))
    edits = built if in_order else {name: v.index_select(0, inverse.to(v.device)) for name, v in built.items()}
    forms: list[tuple[Any, list[Path]]] = []

    def sample(edits: Edits, *x: Tensor) -> tuple[Tensor, ...]:
        single = (t if axis is None else t.unsqueeze(axis) for t, axis in zip(x, axes, strict=True))
        output = skeleton.put(edits, tuple(single))
        found = tensors(output)
        forms.append((output, list(found)))
        return tuple(t.squeeze(_axis_of(outputs, path)) for path, t in found.items())

    found = torch.vmap(sample, in_dims=(0, *axes), randomness="different")(edits, *inputs)
    output, paths = forms[0]
    return replaced(output, {p: t.movedim(0, _axis_of(outputs, p)) for p, t in zip(paths, found, strict=True)})


def _axis_of(outputs: Mapping[Path, Call], path: Path) -> int:
    axis = outputs[path].batch if path in outputs else None
    if axis is None:
        raise RefusedError(
            f"vmap=True needs outputs whose rows are the samples; those of {_shown(path)} are not; split the batch (vmap=False)"
        )
    return axis


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
