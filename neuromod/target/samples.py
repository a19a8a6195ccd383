"""Samples to probe with, and what tells one row from another: an axis is the batch where its rows are those of the samples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neuromod.seeds import generator

Axes = tuple[int | None, ...]
"""Of each input its batch axis; None of one that all samples share."""

SHIFT = 0.25
"""How far a sample is moved to make it unlike the others, of its own size."""


def size_of(inputs: Sequence[Tensor], axes: Axes) -> int:
    """B: the samples of the first input that has a batch axis."""
    return next(x.shape[axis] for x, axis in zip(inputs, axes, strict=True) if axis is not None)


def with_none(axes: Axes, place: int) -> Axes:
    """The same axes with None for the input at ``place``."""
    return tuple(None if i == place else axis for i, axis in enumerate(axes))


def repeated(inputs: Sequence[Tensor], axes: Axes, count: int) -> tuple[Tensor, ...]:
    """Samples of the example, over and over; shared inputs as they are.

    Args:
        inputs: of the example.
        axes: their batch axes.
        count: how many samples.

    """
    places = torch.arange(count) % size_of(inputs, axes)
    return taken(inputs, axes, places)


def taken(inputs: Sequence[Tensor], axes: Axes, places: Tensor) -> tuple[Tensor, ...]:
    """Some samples, copied; shared inputs are copied whole.

    Args:
        inputs: of the network.
        axes: their batch axes.
        places: int64 (n,) of the samples.

    """
    return tuple(
        x.clone() if axis is None else x.index_select(axis, places.to(x.device))
        for x, axis in zip(inputs, axes, strict=True)
    )


def unlike(inputs: Sequence[Tensor], axes: Axes, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
    """``count`` samples like those of the example, unlike each other as far as their dtype and chance allow.

    Floats are moved by a quarter of their size, integers down by one here and there, where that leaves them at 0 or above
    (another token, a shorter length); masks stay as they are.

    Args:
        inputs: of the example.
        axes: their batch axes.
        count: how many samples.
        rng: a CPU generator.

    """
    return tuple(
        x if axis is None else _unlike(x, axis, size_of(inputs, axes), rng)
        for x, axis in zip(repeated(inputs, axes, count), axes, strict=True)
    )


def unordered(count: int) -> Tensor:
    """An order of 3 samples or more that neither a flip nor a roll of the batch leaves as it is: what these do to it shows."""
    rng, places = generator("order", count), torch.arange(count)
    while True:
        order = torch.randperm(count, generator=rng)
        others = [places.flip(0), *(places.roll(shift) for shift in range(1, count))]
        if not any(torch.equal(order[other], other[order]) for other in others):
            return order


def _unlike(x: Tensor, axis: int, size: int, rng: torch.Generator) -> Tensor:
    alike = has_twins(x.narrow(axis, 0, size), axis)
    # The example's own samples stay where they differ already: only what was repeated is moved.
    moves = torch.ones(x.shape[axis]) if alike else (torch.arange(x.shape[axis]) >= size).float()
    moves = moves.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    drawn = torch.rand(x.shape, generator=rng) * moves
    if x.is_floating_point() or x.is_complex():
        flat = 0.0 if bool((x != 0).any()) else SHIFT
        # What joins the batch is larger than what is there: it moves a maximum as well as a mean.
        larger = 1.0 + (torch.arange(x.shape[axis]) >= size).float().reshape(moves.shape)
        return (x * (1 + SHIFT * drawn).to(x) + (flat * drawn).to(x)) * larger.to(x)
    if x.dtype == torch.bool or (x.ndim == 1 and not alike):
        return x
    step = (drawn > 0.5).to(x)
    return x - step * (x > 0) if bool((x > 0).any()) else x + step


def padded(inputs: Sequence[Tensor], axes: Axes) -> tuple[Tensor, ...]:
    """The same samples, each but the first a little shorter than it was: zeros (of a mask, the opposite) at its end.

    A network that sorts or packs by lengths shows it only where they differ.
    """
    return tuple(x if axis is None or x.ndim < 2 else _padded(x, axis) for x, axis in zip(inputs, axes, strict=True))


def _padded(x: Tensor, axis: int) -> Tensor:
    x, along = x.clone(), 1 if axis == 0 else 0
    count, length = x.shape[axis], x.shape[along]
    step = max(1, length // (count + 1))
    for place in range(1, count):
        short = (place * step) % length
        end = x.select(axis, place).narrow(along if along < axis else along - 1, length - short, short)
        end.copy_(
            ~x.select(axis, 0).select(along if along < axis else along - 1, 0) if x.dtype == torch.bool else end * 0
        )
    return x


def has_twins(x: Tensor, axis: int) -> bool:
    """Whether two samples of an input are alike, or there is but one."""
    if x.shape[axis] == 1:
        return True
    rows = x.movedim(axis, 0).flatten(1) if x.ndim > 1 else x.unsqueeze(1)
    return len(rows.unique(dim=0)) < len(rows) if not rows.is_complex() else False


def signature(t: Tensor, axis: int) -> Tensor:
    """Three numbers (rows, 3) in float64 that tell the rows of a tensor along ``axis`` apart: two projections and the norm."""
    rows = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    flat = rows.detach().movedim(axis, 0).reshape(t.shape[axis], -1)
    flat = flat.to("cpu", torch.float64).nan_to_num(nan=7.0, posinf=3.0, neginf=-3.0)
    places = torch.arange(flat.shape[1], dtype=torch.float64)
    return torch.stack([flat @ torch.cos(places * 1.7 + 0.3), flat @ torch.sin(places * 2.3), flat.norm(dim=1)], 1)


def in_order(plain: Tensor, moved: Tensor, order: Tensor, eps: float) -> bool:
    """Whether the rows of ``moved`` are those of ``plain`` in another order.

    Args:
        plain: signatures of the samples.
        moved: signatures of the samples in that order.
        order: the order.
        eps: of the dtype that the rows were computed in.

    """
    scale = max(float(plain.abs().max()), 1e-300)
    off = float((moved - plain[order]).abs().max()) / scale
    stirred = float((plain[order] - plain).abs().max()) / scale
    return off <= max(16 * min(eps, 1e-5), 0.01 * stirred)


def alone(few: Tensor, many: Tensor, eps: float) -> bool:
    """Whether the rows of ``few`` are the first rows of ``many``: no sample changes another.

    Args:
        few: signatures of some samples.
        many: signatures of the same and others behind them.
        eps: of the dtype that the rows were computed in.

    """
    scale = max(float(many.abs().max()), 1e-300)
    off = float((many[: len(few)] - few).abs().max()) / scale
    spread = float((many - many[:1]).abs().max()) / scale
    # Another batch size takes other kernels, which round otherwise, layer upon layer.
    return off <= max(1000 * min(eps, 1e-5), 1e-5 * spread)
