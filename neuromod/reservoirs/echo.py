"""Whether a modulated reservoir forgets where it started: per context, and while contexts switch."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, instance, number, one_of, task_ids
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.reservoirs.network import Reservoir
from neuromod.reservoirs.schedule import stateful, unroll
from neuromod.seeds import generator
from neuromod.target.taps import OUTPUT_TAP

SWITCHING = ("switching in turns", "switching at random")
SITES = ("drive", "neurons", "state")


@dataclass(frozen=True)
class Echo:
    """What two starts of one reservoir came to, by context and under switching.

    Args:
        distances: |x - x'| at the last step, from any two of the starts.
        factors: by how much a step shrinks the distance, ``(d_T / d_0)^(1 / T)``, up to the step where it is below the tolerance.
        bounds: of each context, the most that any step may stretch a distance, whatever the input (`bound`): below 1 in all
            contexts is enough for the echo-state property under any switching. Infinite of a network that is no `Reservoir`.
        tolerance: below which two starts count as merged.

    """

    distances: Mapping[str, float]
    factors: Mapping[str, float]
    bounds: Mapping[str, float]
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether all starts merged, in every context and under switching."""
        return all(distance < self.tolerance for distance in self.distances.values())

    @property
    def proven(self) -> bool:
        """Whether the bounds alone prove it, for any input and any switching."""
        return all(bound < 1 for bound in self.bounds.values())


# reason: a measurement, and what is done about it
@torch.no_grad()
def echo_state(
    model: Modulated,
    inputs: Tensor,
    *,
    tasks: Sequence[int] | None = None,
    dwell: int = 50,
    tolerance: float = 1e-10,
    otherwise: str = "refuse",
    seed: int = 0,
) -> Echo:
    """Drive a modulated reservoir from two starts and see whether they merge, in every context and while contexts switch.

    Contexts whose spectral radii are below 1 are not enough where they switch: the exact quantity is the joint spectral radius of
    ``{diag(g_c) W}``. So both are run: each context for all steps, and another context every ``dwell`` steps, in turns and in a
    random order.

    Refused: with ``otherwise="refuse"``, a reservoir whose starts do not merge, with the context and the measured contraction.

    Args:
        model: a `Modulated` over ``Target(net, net.example())``; of a network that is no `Reservoir` no bound is known.
        inputs: (T, D) that drive it, a few thousand steps.
        tasks: the contexts; those of the model where None, and one where it reads no task.
        dwell: steps of a context before the next.
        tolerance: the distance below which two starts have merged.
        otherwise: "refuse", "warn", or "report" where they do not merge.
        seed: of the starts and of the order of contexts.

    """
    one_of(otherwise, "otherwise", ("refuse", "warn", "report"))
    tolerance, dwell = number(tolerance, "tolerance", above=0), count(dwell, "dwell", least=1)
    net = stateful(model, "what is checked")
    instance(inputs, Tensor, "inputs of a check")
    if inputs.ndim != 2:
        raise RefusedError(f"a check is driven by one sequence (T, D); got {tuple(inputs.shape)}; pass inputs[0]")
    contexts: list[int | None] = list(task_ids(model.tasks() if tasks is None else tasks)) or [None]
    steps, units = len(inputs), int(net.units)  # type: ignore[arg-type]
    plan = _plan(contexts, steps, dwell, seed)
    rng = generator("echo", "starts", seed)
    drawn = torch.rand(units, generator=rng, dtype=torch.float64) * 2 - 1
    # Opposite ends: two starts on one side may meet in one of two attractors.
    starts = torch.stack([drawn, -drawn])
    names = [
        *(f"task {c}" if c is not None else "the reservoir" for c in contexts),
        *SWITCHING[: 2 * (len(contexts) > 1)],
    ]
    found = unroll(
        model,
        inputs.expand(2 * len(plan), *inputs.shape),
        task=None if contexts[0] is None else plan.repeat_interleave(2, 0),
        start=starts.to(model.target.like()).repeat(len(plan), 1),
    )
    apart = (found[::2] - found[1::2]).double().norm(dim=-1)
    begun = float(2 * drawn.norm())
    known = isinstance(net, Reservoir)
    bounds = {names[i]: bound(model, c) if known else math.inf for i, c in enumerate(contexts)}
    echo = Echo(
        {name: float(row[-1]) for name, row in zip(names, apart, strict=True)},
        {name: _factor(row, begun, tolerance) for name, row in zip(names, apart, strict=True)},
        bounds,
        tolerance,
    )
    if not echo.holds and otherwise != "report":
        words = _words(echo, steps)
        if otherwise == "refuse":
            raise RefusedError(f"{words}, or pass otherwise='warn'")
        warnings.warn(words, stacklevel=3)  # one frame more is that of no_grad
    return echo


@torch.no_grad()
def bound(model: Modulated, task: int | None = None) -> float:
    """The most that a step of this context may stretch the distance of two states: below 1 proves the echo-state property.

    ``|A_state| ((1 - a) + a |A_neurons| |A_drive W|)``, where A is what a tap does to its site (gain times mix) and ``|.|`` the
    largest singular value; for a gain g alone and no leak this is ``|diag(g) W|``. tanh never stretches.

    Args:
        model: a `Modulated` over a `Reservoir`.
        task: the context; none where the model reads no task.

    """
    net = instance(model, Modulated, "what has a bound").target.pristine
    if not isinstance(net, Reservoir):
        raise RefusedError(
            f"the bound is that of a Reservoir; got a {type(net).__name__}; judge others by two starts (echo_state)"
        )
    edits = model.edits(task=task)
    weight = edits.get("recurrent.weight", net.recurrent.weight).double().cpu()
    drive, neurons, state = (_matrix(edits, site, net.units) for site in SITES)
    inner = _norm(neurons) * _norm(drive @ weight)
    return _norm(state) * ((1 - net.leak) + net.leak * inner)


def _matrix(edits: Mapping[str, Tensor], site: str, units: int) -> Tensor:
    gain, _, mix = (edits.get(f"{site}.{slot}") for slot in OUTPUT_TAP)
    own = torch.eye(units, dtype=torch.float64) if mix is None else mix.detach().double().cpu()
    return own if gain is None else gain.detach().double().cpu()[:, None] * own


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix.detach().cpu(), 2))


def _plan(contexts: Sequence[Any], steps: int, dwell: int, seed: int) -> Tensor:
    """Ids by row and step: a row of each context alone, then all of them in turns and in a random order."""
    if contexts[0] is None:
        return torch.zeros(1, steps, dtype=torch.long)
    alone = torch.tensor(contexts)[:, None].expand(-1, steps)
    if len(contexts) == 1:
        return alone
    blocks = math.ceil(steps / dwell)
    rng = generator("echo", "order", seed)
    # Rounds in which each context has its turn, in another order each time.
    order = torch.cat([torch.randperm(len(contexts), generator=rng) for _ in range(blocks // len(contexts) + 1)])
    orders = torch.stack([torch.arange(blocks) % len(contexts), order[:blocks]])
    return torch.cat([alone, torch.tensor(contexts)[orders].repeat_interleave(dwell, 1)[:, :steps]])


def _factor(apart: Tensor, begun: float, tolerance: float) -> float:
    merged = (apart < tolerance).nonzero()
    last = int(merged[0]) if len(merged) else len(apart) - 1
    return math.exp(math.log(max(float(apart[last]), 1e-300) / begun) / (last + 1))


def _words(echo: Echo, steps: int) -> str:
    worst = max(echo.distances, key=lambda name: echo.distances[name])
    where = worst if worst in SWITCHING else f"in {worst}"
    return (
        f"a reservoir forgets its start (echo-state property); two starts are {echo.distances[worst]:.2g} apart after {steps} steps "
        f"{where}, a factor of {echo.factors[worst]:.5f} a step; lower the radius or the gains"
    )
