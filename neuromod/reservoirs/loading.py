"""Patterns stored in a reservoir: W is computed once so that it drives itself, and frozen from then on."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from neuromod.arguments import count, instance, number
from neuromod.errors import RefusedError
from neuromod.reservoirs.network import Reservoir
from neuromod.reservoirs.readout import Moments
from neuromod.reservoirs.states import stacked, states


def driven(net: Reservoir, patterns: Tensor | Sequence[Tensor], washout: int) -> tuple[Tensor, Tensor, Tensor]:
    """States that patterns drive: before each step (B, T, N), after it, and the inputs (B, T, D) of these steps.

    Args:
        net: the reservoir.
        patterns: B patterns (B, T + washout, D), as inputs.
        washout: steps left out in front.

    """
    instance(net, Reservoir, "what patterns drive")
    p, skipped = stacked(patterns), count(washout, "washout", least=1)
    if p.ndim != 3 or p.shape[1] <= skipped:
        raise RefusedError(
            f"a wash-out leaves steps of a pattern; {skipped} of {tuple(p.shape)} leave none; pass longer patterns (B, T, D)"
        )
    (x,) = states(net, p)
    return x[:, skipped - 1 : -1], x[:, skipped:], p[:, skipped:].to(x)


@torch.no_grad()
def load(net: Reservoir, patterns: Tensor | Sequence[Tensor], *, washout: int = 500, ridge: float = 1e-4) -> Reservoir:
    """A copy of the reservoir that says patterns without their input: ``W x[t] ~ W* x[t] + W_in p[t+1]`` by a ridge.

    Jaeger 2014, section 3.3. This is the one time that W changes; freeze the copy in a `Target`, and choose a pattern by its
    conceptor. The copy has the same bias and input weights: it is run on inputs of 0.

    Args:
        net: the reservoir W*, without leak.
        patterns: B patterns (B, T, D), as inputs.
        washout: steps of each that are left out in front.
        ridge: of W.

    """
    if instance(net, Reservoir, "what patterns are loaded into").leak != 1:
        raise RefusedError(
            f"patterns are loaded into a reservoir without leak; got leak={net.leak:g}; draw it with leak=1"
        )
    before, _, p = driven(net, patterns, washout)
    wanted = before @ net.recurrent.weight.mT + p @ net.input.weight.mT
    moments = Moments.of(before.flatten(0, 1), wanted.flatten(0, 1))
    (weight,) = moments.solve([number(ridge, "ridge", least=0)])
    loaded = copy.deepcopy(net)
    loaded.recurrent.weight.copy_(weight)
    return loaded
