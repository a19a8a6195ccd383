"""How far a network in a network may be from its target: what is proven, and what is seen."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from neuromod.arguments import count, flag, instance, number, shown, task_id, tensor
from neuromod.errors import RefusedError, refusing
from neuromod.modulated import Modulated
from neuromod.seeds import generator

Module = TypeVar("Module", bound=nn.Module)


def certificate(
    norms: Sequence[float],
    errors: Sequence[float],
    *,
    radius: float = 1.0,
    biases: Sequence[float] = (),
    bias_errors: Sequence[float] = (),
) -> float:
    """A bound on ``max |f~(x) - f(x)|`` over ``|x| <= radius`` for layers of ReLU.

    Without biases ``radius (prod (s_l + E_l) - prod s_l)``. In general, with ``r_0 = radius`` and ``e_0 = 0``,
    ``r_l = s_l r_{l-1} + |b_l|`` bounds what layer l puts out and ``e_l = (s_l + E_l) e_{l-1} + E_l r_{l-1} + |b~_l - b_l|`` its error,
    because ReLU is 1-Lipschitz and ``|(relu(z), relu(-z))| = |z|``.

    >>> round(certificate((2, 1.5, 1), (0.01, 0.02, 0.03)), 6)
    0.146856

    Args:
        norms: ``s_l``, the spectral norms of the target's weights.
        errors: ``E_l``, the spectral norms of what the found weights miss: of ``[A_l - W_l, B_l - W_l]`` where inputs have both
            signs and ``A relu(z) - B relu(-z)`` stands for ``W z``, of ``A_l - W_l`` where they are never negative.
        radius: of the ball.
        biases: ``|b_l|``, one for each layer; none: all are 0.
        bias_errors: ``|b~_l - b_l|``, likewise.

    """
    size, error = number(radius, "radius", above=0), 0.0
    s, missed, b, b_missed = map(_norms, (norms, errors, biases, bias_errors))
    none = [0.0] * len(s)
    lists = s, missed, b or none, b_missed or none
    if not s or any(len(one) != len(s) for one in lists):
        raise RefusedError(
            f"a certificate takes a norm and an error of each layer; got {len(s)} norms and {len(missed)} errors, {len(b)} and "
            f"{len(b_missed)} of biases; pass as many of each"
        )
    for s_l, e_l, b_l, d_l in zip(*lists, strict=True):
        size, error = s_l * size + b_l, (s_l + e_l) * error + e_l * size + d_l
    return error


def _norms(given: Sequence[float]) -> list[float]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise RefusedError(
            f"norms of a certificate come in a list, one for each layer; got {shown(given)}; pass [2.0, 1.5]"
        )
    return [number(one, "a norm of a certificate", least=0) for one in given]


def unit_ball(samples: int, dimension: int, *, radius: float = 1.0, seed: int = 0, nonnegative: bool = False) -> Tensor:
    """Points of the ball ``|x| <= radius``, float64 (samples, dimension): half of them on its surface, half inside, uniform.

    Args:
        samples: how many.
        dimension: of each.
        radius: of the ball.
        seed: of the draw.
        nonnegative: only points with no negative coordinate.

    """
    samples, dimension = count(samples, "samples", least=1), count(dimension, "dimension", least=1)
    radius, rng = number(radius, "radius", above=0), generator(count(seed, "seed"), "unit ball")
    x = torch.randn(samples, dimension, generator=rng, dtype=torch.float64)
    x *= radius / x.norm(dim=1, keepdim=True)
    x[::2] *= torch.rand(len(x[::2]), 1, generator=rng, dtype=torch.float64) ** (1 / dimension)
    return x.abs() if flag(nonnegative, "nonnegative") else x


@torch.no_grad()
def measured_error(model: Modulated, task: int, net: nn.Module, points: Tensor) -> float:
    """``max |f~(x) - f(x)|`` over points (B, d), in float64: f the target ``net``, f~ what the masks of ``task`` leave of the random one.

    Args:
        model: a random network with the masks of tickets (`RandomMLP.model`).
        task: one of its tasks.
        net: the network that the ticket of this task was found for.
        points: such as `unit_ball`'s.

    """
    instance(net, nn.Module, "net, the target of a ticket,")
    x = tensor(points, "points").double()
    if not bool(torch.isfinite(x).all()):
        raise RefusedError("an error is measured at finite points; got NaN or infinity; leave such points out")
    twin = in_doubles(instance(model, Modulated, "model"))
    with refusing("the target and the random network take the same points; one does not", "pass points of their width"):
        found, wanted = twin(x, task=task_id(task)), in_doubles(net)(x)
    if found.shape != wanted.shape:
        raise RefusedError(
            f"the target is the one that the ticket was found for; it gives {tuple(wanted.shape)}, the random network "
            f"{tuple(found.shape)}; pass that"
        )
    return float((found - wanted).flatten(1).norm(dim=1).max())


def in_doubles(net: Module) -> Module:
    """A copy of a network in float64 and in evaluation; its float32 numbers stay what they are."""
    return copy.deepcopy(net).double().eval()
