"""Sixteen reservoirs of 200 units over 4,000 steps beside `reservoirpy`, which runs them one by one; float64, one thread.

The same job for both: NARMA10, sparse weights (a tenth kept), spectral radius .8, no leak; states, then a readout of states and
inputs by a ridge of 1e-9 on the first half. Errors are NRMSE on the second half, the mean over 16 reservoirs on each of four series;
alike: all units hear the input, where by its own default a tenth of the peer's do.
Without `reservoirpy` (``pip install 'neuromod[peers]'``) ours alone is there, and nothing to compare it with.
"""

import importlib.util
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import conditions
from benchmarks.timing import Bar, Report, interleave
from neuromod.reservoirs import Readout, Reservoir, fit, nrmse, states
from neuromod.seeds import generator
from tasks.reservoir.series import narma

COUNT, UNITS, STEPS, WASHOUT, SERIES = 16, 200, 4000, 200, 4
RADIUS, SCALE, BIAS, RIDGE, DENSITY = 0.8, 0.1, 0.2, 1e-9, 0.1


def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns."""
    fixed = conditions()
    own = _ours()
    if importlib.util.find_spec("reservoirpy") is None:
        samples = interleave(own, turns=3 if quick else 9)
        bars = [samples.bar(f"{name} / states", name, "states") for name in own if name != "states"]
        return Report("reservoir", tuple(bars), fixed | {"reservoirpy": "not installed, nothing is compared"})
    import reservoirpy

    samples = interleave(own | _theirs(), turns=3 if quick else 9, warm_up=1)
    alike, default = errors(peer_error), errors(lambda u, y: peer_error(u, y, connectivity=0.1))
    mine, biased = errors(our_error), errors(lambda u, y: our_error(u, y, bias=BIAS))
    bars = [
        Bar("NRMSE, alike: ours / theirs", mine / alike, 1.03),
        Bar("NRMSE, each as it comes: ours / theirs", mine / default),
        Bar("NRMSE, ours with a bias / theirs alike", biased / alike),
        samples.bar("states: ours / theirs", "states", "theirs, states", 0.5),
        samples.bar("states and readouts: ours / theirs", "states and readouts", "theirs, states and readouts", 0.5),
        *(samples.bar(f"{name}: ours / their sparse states", name, "theirs, states") for name in own if "," in name),
        samples.bar("one call / one by one, ours", "states", "one by one"),
    ]
    return Report(
        "reservoir", tuple(bars), fixed | {"reservoirpy": reservoirpy.__version__, "NRMSE, ours": f"{mine:.4f}"}
    )


def series(seed: int) -> tuple[Tensor, Tensor]:
    """NARMA10: inputs and targets (STEPS, 1), of a draw that does not diverge."""
    for tries in range(100):
        u = 0.5 * torch.rand(STEPS, generator=generator("benchmark", seed, tries), dtype=torch.float64)
        y = narma(u)
        if bool(torch.isfinite(y).all()):
            return u[:, None], y[1:, None]
    raise SystemExit("NARMA10 diverged 100 times in a row; its generator is broken")


def errors(of: Callable[..., list[float]]) -> float:
    """The mean NRMSE of 16 reservoirs on each of four series."""
    return statistics.fmean(error for seed in range(SERIES) for error in of(*series(seed)))


# ---- ours ----------------------------------------------------------------------------------------------------------


def reservoirs(form: str = "sparse", bias: float = 0.0) -> list[Reservoir]:
    drawn = {"radius": RADIUS, "input_scale": SCALE, "density": DENSITY, "bias_scale": bias}
    return [Reservoir(UNITS, form=form, seed=seed, **drawn) for seed in range(COUNT)]  # type: ignore[arg-type]


def readouts(x: Tensor, u: Tensor, y: Tensor) -> Readout:
    """A readout of each reservoir, from its states (R, 1, T, N) on the first half."""
    half = STEPS // 2
    return fit(x[:, :, :half], y[:half], inputs=u[:half], ridge=RIDGE, washout=WASHOUT, each=True)


def our_error(u: Tensor, y: Tensor, bias: float = 0.0) -> list[float]:
    x = states(reservoirs(bias=bias), u[None])
    said = readouts(x, u, y)(x, u)[:, 0, STEPS // 2 :]
    return [nrmse(one, y[STEPS // 2 :]) for one in said]


def _ours() -> dict[str, Callable[[], object]]:
    (u, y), nets = series(0), reservoirs()
    uniform, ring = reservoirs("uniform"), reservoirs("ring")
    return {
        "states": lambda: states(nets, u[None]),
        "states and readouts": lambda: readouts(states(nets, u[None]), u, y),
        "one by one": lambda: [states(net, u[None]) for net in nets],
        "states, uniform": lambda: states(uniform, u[None]),
        "states, ring": lambda: states(ring, u[None]),
    }


# ---- theirs --------------------------------------------------------------------------------------------------------


def peers(connectivity: float = 1.0) -> list[Any]:
    """The same reservoirs of the peer's; ``connectivity`` is the share of units that hear the input (its own default is .1)."""
    from reservoirpy.nodes import Reservoir as Peer

    drawn = {"sr": RADIUS, "input_scaling": SCALE, "rc_connectivity": DENSITY, "input_connectivity": connectivity}
    return [Peer(UNITS, lr=1.0, seed=seed, **drawn) for seed in range(COUNT)]


def peer_readout(x: Any, u: Any, y: Any) -> Any:
    from reservoirpy.nodes import Ridge

    half = STEPS // 2
    return Ridge(ridge=RIDGE).fit(np.concatenate([x, u], 1)[:half], y[:half], warmup=WASHOUT)


def peer_error(u: Tensor, y: Tensor, connectivity: float = 1.0) -> list[float]:
    found = []
    for net in peers(connectivity):
        x = net.run(u.numpy())
        said = peer_readout(x, u.numpy(), y.numpy()).run(np.concatenate([x, u.numpy()], 1)[STEPS // 2 :])
        found.append(nrmse(torch.from_numpy(said), y[STEPS // 2 :]))
    return found


def _theirs() -> dict[str, Callable[[], object]]:
    (u, y), nets = (part.numpy() for part in series(0)), peers()
    return {
        "theirs, states": lambda: [net.run(u) for net in nets],
        "theirs, states and readouts": lambda: [peer_readout(net.run(u), u, y) for net in nets],
    }
