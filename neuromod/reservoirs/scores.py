"""How far off a series is: NMSE and its root NRMSE, kept apart; and how much of the past a reservoir holds."""

import math
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, number, shown
from neuromod.errors import RefusedError
from neuromod.reservoirs.network import finite
from neuromod.reservoirs.readout import fit


def nmse(found: Tensor, wanted: Tensor) -> float:
    """``mse / var(wanted)``, over all steps, the mean over outputs: 0 is exact, 1 is what the mean of the series gets.

    Refused: series of different shapes, NaN, and a wanted output that never changes.

    Args:
        found: (..., T, D), or (T,) for a single output.
        wanted: of the same shape.

    """
    y, d = _series(found, "a series that is scored"), _series(wanted, "a series that is wanted")
    if y.shape != d.shape:
        raise RefusedError(
            f"a series is scored against one of its shape; got {tuple(y.shape)} for {tuple(d.shape)}; match them"
        )
    y, d = y.reshape(-1, y.shape[-1]), d.reshape(-1, d.shape[-1])
    variance = d.var(0, unbiased=False)
    if not bool((variance > 0).all()):
        raise RefusedError(
            "an error is relative to the variance of what is wanted; that of one output is 0; leave it out"
        )
    return float(((y - d).square().mean(0) / variance).mean())


def nrmse(found: Tensor, wanted: Tensor) -> float:
    """``sqrt(nmse)``; arguments as there."""
    return math.sqrt(nmse(found, wanted))


def memory_curve(states: Tensor, inputs: Tensor, delays: int, *, washout: int = 100, ridge: float = 1e-9) -> Tensor:
    """``r^2(k)`` for k = 1..delays: the squared correlation of u[t - k] with a readout trained to say it (Jaeger 2001, eq. 1).

    Their sum is the memory capacity, at most the number of units for independent inputs. Readouts are fitted on the first half of
    the steps behind the wash-out and judged on the second, so that a delay that is not held counts nothing.

    Args:
        states: (T, N).
        inputs: u (T,) or (T, 1) that drove them.
        delays: the longest.
        washout: steps left out in front; the longest delay is left out at least.
        ridge: of the readouts.

    """
    x, u = _series(states, "states"), _series(inputs, "inputs")
    delays, skipped = count(delays, "delays", least=1), max(count(washout, "washout"), delays)
    ridge = number(ridge, "ridge", least=0)
    if x.ndim != 2 or u.shape != (len(x), 1):
        raise RefusedError(
            f"memory is that of one input: states (T, N) and inputs (T,); got {shown(states)} and {shown(inputs)}; correct them"
        )
    half = (len(x) - skipped) // 2
    if half < 2:
        raise RefusedError(
            f"memory is judged on steps behind the wash-out; {skipped} of {len(x)} are left out; pass a longer series"
        )
    past = torch.stack([u[skipped - k : len(u) - k, 0] for k in range(1, delays + 1)], 1)
    x = x[skipped:]
    readout = fit(x[:half], past[:half], ridge=ridge)
    said, wanted = readout(x[half:]), past[half:]
    said, wanted = said - said.mean(0), wanted - wanted.mean(0)
    norms = said.square().sum(0) * wanted.square().sum(0)
    # A readout that says nothing correlates with nothing.
    return torch.where(norms > 0, (said * wanted).sum(0).square() / norms.clamp_min(1e-300), torch.zeros_like(norms))


def _series(values: Any, what: str) -> Tensor:
    if not isinstance(values, Tensor) or not values.is_floating_point() or not values.ndim or not values.numel():
        raise RefusedError(f"{what} is a tensor of real floats by step; got {shown(values)}; convert it")
    series = values.detach().double()
    return finite(series[:, None] if series.ndim == 1 else series, what)
