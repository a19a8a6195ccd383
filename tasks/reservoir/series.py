"""Series to forecast, by their exact definitions; float64, each drawn from a seed of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.config.fields import Count
from tasks.data.load import ROOT_VARIABLE, root_of
from tasks.errors import UserError
from tasks.runs.bench import Bench
from tasks.runs.files import file_digest
from tasks.runs.seeds import generator

LARGEST = 10.0
"""NARMA stays below 2; beyond this it is on its way to infinity."""
TRIES = 100
LASER = "santafe_laser_A"


@dataclass(frozen=True)
class Series:
    """A series of inputs and what is to be said of it.

    Args:
        inputs: u (T, D).
        targets: y (T, O), what is to be said once input t is in.
        redrawn: how often it was drawn again because it diverged.
        source: what a run records of its data.

    """

    inputs: Tensor
    targets: Tensor
    redrawn: int = 0
    source: Mapping[str, Any] = field(default_factory=dict)


def narma(u: Tensor) -> Tensor:
    """NARMA10 (Atiya & Parlos 2000): y (T + 1,) of inputs (T,), with ``y[0..9] = 0``.

    ``y[t+1] = .3 y[t] + .05 y[t] sum_{i=0..9} y[t-i] + 1.5 u[t-9] u[t] + .1`` from t = 9 on; infinite once it diverges.
    """
    given, y = u.tolist(), [0.0] * 10
    for t in range(9, len(given)):
        now = y[-1]
        y.append(0.3 * now + 0.05 * now * sum(y[-10:]) + 1.5 * given[t - 9] * given[t] + 0.1)
        if abs(y[-1]) > LARGEST:
            return torch.tensor(y + [float("inf")] * (len(given) - t), dtype=torch.float64)[: len(given) + 1]
    return torch.tensor(y, dtype=torch.float64)


@dataclass(frozen=True)
class Narma:
    """NARMA10 of ``u ~ U[0, .5]``; a series that diverges is drawn again, and counted."""

    def draw(self, bench: Bench, steps: int) -> Series:
        """Inputs u[t] and targets y[t + 1]. UserError where ``steps`` are so many that every draw diverges."""
        for tries in range(TRIES):
            u = 0.5 * torch.rand(steps, generator=generator("narma", bench.seeds["data"], tries), dtype=torch.float64)
            y = narma(u)
            if bool(torch.isfinite(y).all()):
                return Series(u[:, None], y[1:, None], tries, _drawn("NARMA10"))
        raise UserError(
            f"NARMA10 diverges for some inputs and is drawn again; {TRIES} draws of {steps} steps all did; ask for fewer steps"
        )


def mackey_glass(steps: int, *, delay: int = 17, start: float = 1.2) -> Tensor:
    """``dx/dt = .2 x(t - delay) / (1 + x(t - delay)^10) - .1 x`` (steps,), x = start up to 0, one sample per unit of time.

    Fourth-order Runge-Kutta of step 1; the delayed value is held over a step.

    Args:
        steps: samples, the first of them ``start``.
        delay: tau.
        start: x(t) for t <= 0.

    """
    x = [start] * (delay + 1)

    def slope(now: float, past: float) -> float:
        return 0.2 * past / (1 + past**10) - 0.1 * now

    for _ in range(steps - 1):
        now, past = x[-1], x[-1 - delay]
        a = slope(now, past)
        b = slope(now + a / 2, past)
        c = slope(now + b / 2, past)
        d = slope(now + c, past)
        x.append(now + (a + 2 * b + 2 * c + d) / 6)
    return torch.tensor(x[delay:], dtype=torch.float64)


@dataclass(frozen=True)
class MackeyGlass:
    """The series of delay 17, less 1, whose value ``horizon`` steps ahead is asked for; a start in [1.1, 1.3], 500 steps left out."""

    horizon: Count = 1

    def draw(self, bench: Bench, steps: int) -> Series:
        """Inputs x[t] - 1 and targets x[t + horizon] - 1."""
        rng = generator("mackey-glass", bench.seeds["data"])
        start = 1.1 + 0.2 * float(torch.rand((), generator=rng, dtype=torch.float64))
        x = mackey_glass(500 + steps + self.horizon, start=start)[500:, None] - 1
        return Series(x[:steps], x[self.horizon :], 0, _drawn("Mackey-Glass, delay 17"))


@dataclass(frozen=True)
class Laser:
    """Data set A of the Santa Fe competition (Weigend & Gershenfeld 1994): the next value of a far-infrared laser.

    Read from ROOT/santafe_laser_A.npy, where ROOT is ``data.root`` or $NEUROMOD_DATA: 10,093 numbers. Divided by 255, less .5.
    """

    def draw(self, bench: Bench, steps: int) -> Series:
        """Inputs x[t] and targets x[t + 1], from the first value on. UserError where the file is missing, or is too short."""
        file = laser_file(bench)
        try:
            values = np.load(file)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{file} must be an array that numpy wrote; reading says {error}; write it anew") from error
        if (
            not isinstance(values, np.ndarray)
            or values.ndim != 1
            or values.dtype.kind not in "iuf"
            or len(values) <= steps
        ):
            got = f"{values.dtype}, {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise UserError(
                f"{file} must hold {steps + 1} numbers or more in one row; got {got}; shorten train or test"
            )
        x = torch.from_numpy(values[: steps + 1].astype(np.float64))[:, None] / 255 - 0.5
        if not bool(torch.isfinite(x).all()):
            raise UserError(f"{file} must hold finite numbers; got NaN or infinity; write it anew")
        source = {"name": LASER, "sha256": file_digest(file), "substitute": None}
        return Series(x[:-1], x[1:], 0, source)


def laser_file(bench: Bench) -> Path:
    """Where the laser's series lies. UserError where it does not."""
    base = root_of(bench.data.get("root"))
    file = None if base is None else base / f"{LASER}.npy"
    if file is None or not file.is_file():
        place = f"{ROOT_VARIABLE} is not set" if base is None else f"{base} has no {LASER}.npy"
        raise UserError(
            f"the laser's series is not drawn but read, from {LASER}.npy; {place}; put data set A of the Santa Fe competition there, "
            "as numpy.save writes 10,093 numbers"
        )
    return file


def contexts(steps: int, dwell: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs ``u ~ U[-1, 1]`` (T, 1), targets (T, 1) and contexts (T,) of two tasks that take turns.

    In context 0 ``u[t-1] u[t-2]`` is asked for, in context 1 ``u[t-3]``.

    Args:
        steps: T.
        dwell: steps of a context before the next.
        seed: of the inputs.

    """
    u = 2 * torch.rand(steps + 3, generator=generator("contexts", seed), dtype=torch.float64) - 1
    context = (torch.arange(steps) // dwell) % 2
    product, past = u[2:-1] * u[1:-2], u[:-3]
    return u[3:, None], torch.where(context == 0, product, past)[:, None], context


def patterns(steps: int, seed: int) -> Tensor:
    """Two sines of periods 8.834 and 9.834 and two random patterns of period 5 between -.9 and .9, (4, steps, 1).

    Args:
        steps: of each.
        seed: of the two random ones.

    """
    t = torch.arange(steps, dtype=torch.float64)
    sines = [torch.sin(2 * torch.pi * t / period) for period in (8.8342522, 9.8342522)]
    rng = generator("patterns", seed)
    for _ in range(2):
        drawn = torch.rand(5, generator=rng, dtype=torch.float64)
        scaled = 1.8 * (drawn - drawn.min()) / (drawn.max() - drawn.min()) - 0.9
        sines.append(scaled[torch.arange(steps) % 5])
    return torch.stack(sines)[..., None]


def _drawn(name: str) -> dict[str, Any]:
    return {"name": None, "sha256": None, "substitute": None, "stream": name}
