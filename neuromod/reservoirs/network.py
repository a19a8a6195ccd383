"""`Reservoir`: an echo-state network as a plain module, for a `neuromod.Target` to freeze."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.arguments import count, floating, instance, number, shown
from neuromod.errors import RefusedError
from neuromod.reservoirs import draws


class Drive(nn.Module):
    """What reaches the neurons: the sum of recurrence and input; a tap here is gain and bias *inside* the tanh."""

    def forward(self, recurrent: Tensor, given: Tensor) -> Tensor:
        """Their sum (B, N)."""
        return recurrent + given


class Reservoir(nn.Module):
    """``x[t+1] = (1 - a) x[t] + a tanh(W x[t] + W_in u[t+1] + b)`` (Jaeger 2001); all weights are drawn, and none is trained.

    ``net(u, x)`` takes inputs (B, T, D) and the states (B, N) before them (zeros if there are none), and returns the states
    (B, T, N). Its sites: the weights ``recurrent.weight`` and ``input.weight``; the outputs ``drive`` (gain and bias inside the
    tanh), ``neurons`` (behind it) and ``state`` (behind the leak, where a conceptor acts), each called once a step.

    Args:
        units: N.
        inputs: D.
        form: "uniform", "sparse" or "ring" (`draws.recurrent`).
        radius: spectral radius of W; of a ring the weight itself.
        density: the share of weights that a sparse W keeps.
        input_scale: largest magnitude of W_in.
        bias_scale: largest magnitude of b.
        leak: a, in (0, 1].
        seed: of all draws; each has a generator of its own.
        dtype: float64 by default, for a readout with a ridge of 1e-9 needs it.

    """

    def __init__(
        self,
        units: int,
        inputs: int = 1,
        *,
        form: str = "uniform",
        radius: float = 0.9,
        density: float = 0.1,
        input_scale: float = 1.0,
        bias_scale: float = 0.0,
        leak: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:  # reason: what a reservoir is drawn by, each by its name
        super().__init__()
        seed, dtype = count(seed, "seed"), floating(dtype)
        self.leak = number(leak, "leak", above=0, most=1)
        drawn = draws.recurrent(units, form, radius, density, seed)
        given = draws.inputs(units, inputs, form, input_scale, seed)
        self.units, self.inputs = given.shape
        self.recurrent = nn.utils.skip_init(nn.Linear, self.units, self.units, bias=False, dtype=dtype)
        self.input = nn.utils.skip_init(nn.Linear, self.inputs, self.units, dtype=dtype)
        self.drive, self.neurons, self.state = Drive(), nn.Tanh(), nn.Identity()
        with torch.no_grad():
            self.recurrent.weight.copy_(drawn)
            self.input.weight.copy_(given)
            self.input.bias.copy_(draws.bias(self.units, bias_scale, seed))

    def forward(self, u: Tensor, x: Tensor | None = None) -> Tensor:
        """States (B, T, N) of inputs (B, T, D), from the states ``x`` (B, N) before them, in the dtype of the weights."""
        given: Tensor = self.input(check_inputs(u, self.inputs, 3).to(self.input.weight.dtype))
        shape = (len(u), self.units)
        x = given.new_zeros(shape) if x is None else check_start(x, shape, "(B, N)").to(given.dtype)
        states = []
        for step in given.unbind(1):
            fired = self.neurons(self.drive(self.recurrent(x), step))
            x = self.state(fired if self.leak == 1 else (1 - self.leak) * x + self.leak * fired)
            states.append(x)
        return torch.stack(states, 1)

    def example(self, batch: int = 2, steps: int = 3) -> tuple[Tensor, Tensor]:
        """Inputs and states to make a `Target` with: ``Target(net, net.example())``."""
        rng = torch.Generator().manual_seed(0)
        like = self.input.weight
        u = torch.randn(batch, steps, self.inputs, generator=rng).to(like)
        return u, (torch.rand(batch, self.units, generator=rng) - 0.5).to(like)


def check_inputs(u: Tensor, channels: int, *axes: int) -> Tensor:
    """Refuse what is no tensor of inputs (..., T, channels), one step or more.

    Args:
        u: what was given.
        channels: numbers of one input.
        axes: how many axes it may have.

    """
    instance(u, Tensor, "inputs of a reservoir, by sequence and step,")
    if u.ndim not in axes or u.shape[-1] != channels or not u.shape[-2] or not u.is_floating_point():
        form = "(sequences, steps, inputs)" if axes == (3,) else "(..., steps, inputs)"
        raise RefusedError(
            f"inputs of a reservoir are real floats {form}, of {channels} inputs and a step or more; got {shown(u)}; reshape them"
        )
    return u


def check_start(start: Any, shape: tuple[int, ...], axes: str) -> Tensor:
    """Refuse what are no states of this shape to start from.

    Args:
        start: what was given.
        shape: that they must have.
        axes: what the axes are, for the refusal.

    """
    if not isinstance(start, Tensor) or start.shape != shape or not start.is_floating_point():
        raise RefusedError(f"states to start from are {axes}, here {tuple(shape)}; got {shown(start)}; reshape them")
    return start


def finite_start(start: Tensor) -> Tensor:
    """Refuse states to start from with NaN or infinity in them."""
    if not bool(torch.isfinite(start).all()):
        raise RefusedError(
            "states to start from must be finite; got NaN or infinity; start from zeros, or warm up anew"
        )
    return start


def finite(values: Tensor, what: str) -> Tensor:
    """Refuse a series with NaN or infinity in it, with the first step that has one (steps are on the axis before the last)."""
    if math.isfinite(float(values.sum())):  # a tenth of the cost of asking each number
        return values
    steps = torch.isfinite(values).all(-1).reshape(-1, values.shape[-2]).all(0)
    if not bool(steps.all()):
        raise RefusedError(
            f"{what} must be finite; got NaN or infinity at step {int((~steps).nonzero()[0])} of {len(steps)}; fill the gap or "
            "leave the sequence out"
        )
    return values
