"""A random target as a recipe: a constructor, an initialisation and a seed rebuild it bit for bit."""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.arguments import count, number, one_of, shown
from neuromod.errors import RefusedError
from neuromod.seeds import derive, generator, preserved
from neuromod.target.copying import digest_of


def fan_in(weight: Tensor) -> int:
    """Inputs of one unit of a weight ``(out, in, *kernel)``: ``in * prod(kernel)``."""
    return math.prod(weight.shape[1:])


def kaiming_normal(weight: Tensor, rng: torch.Generator) -> Tensor:
    """``w ~ N(0, 2 / fan_in)`` (He et al. 2015, eq. 10)."""
    return torch.randn(weight.shape, generator=rng) * math.sqrt(2 / fan_in(weight))


def glorot_normal(weight: Tensor, rng: torch.Generator) -> Tensor:
    """``w ~ N(0, 2 / (fan_in + fan_out))`` (Glorot & Bengio 2010, eq. 12); the start of Zhou et al. 2019."""
    fan_out = weight.shape[0] * math.prod(weight.shape[2:])
    return torch.randn(weight.shape, generator=rng) * math.sqrt(2 / (fan_in(weight) + fan_out))


def signed_glorot_constant(weight: Tensor, rng: torch.Generator) -> Tensor:
    """``w = +-sqrt(2 / (fan_in + fan_out))``, signs by a fair coin: Zhou's signed constant (2019, section 4.1)."""
    fan_out = weight.shape[0] * math.prod(weight.shape[2:])
    signs = torch.randint(0, 2, weight.shape, generator=rng) * 2.0 - 1.0
    return signs * math.sqrt(2 / (fan_in(weight) + fan_out))


def signed_kaiming_constant(weight: Tensor, rng: torch.Generator) -> Tensor:
    """``w = +-sqrt(2 / fan_in)``, signs by a fair coin (Ramanujan et al. 2020, section 4.3)."""
    signs = torch.randint(0, 2, weight.shape, generator=rng) * 2.0 - 1.0
    return signs * math.sqrt(2 / fan_in(weight))


def orthogonal(weight: Tensor, rng: torch.Generator) -> Tensor:
    """Rows, or columns where there are fewer, are orthonormal times ``sqrt(2)`` (Saxe et al. 2014)."""
    return nn.init.orthogonal_(torch.empty(weight.shape), gain=math.sqrt(2), generator=rng)


INITIALISATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor] | None] = {
    "signed_kaiming_constant": signed_kaiming_constant,
    "kaiming_normal": kaiming_normal,
    "glorot_normal": glorot_normal,
    "signed_glorot_constant": signed_glorot_constant,
    "orthogonal": orthogonal,
    "pytorch": None,
}


@dataclass(frozen=True)
class Recipe:
    """A random network as data: what `Target.from_recipe` draws, and what a `Store` says of it.

    Refused: an unknown ``init``, a density outside (0, 1], and a density with the layers' own initialisation. While the constructor
    runs, the global generators of torch, numpy and `random` are seeded from ``seed``.

    Args:
        constructor: a callable, or its dotted path ``"package.module:name"``, that returns an `nn.Module`.
        kwargs: what it is called with.
        init: "pytorch" (the layers' own), or one of `INITIALISATIONS`, which draws every weight of two axes or more and sets
            the biases of those layers to zero.
        seed: of every draw; each weight has a generator of its own.
        density: the share in (0, 1] that masks will keep: weights are scaled by ``sqrt(1 / density)`` (Ramanujan et al. 2020,
            section 4.3, "scaled"). None: unscaled.

    """

    constructor: str | Callable[..., nn.Module]
    kwargs: dict[str, Any] = field(default_factory=dict)
    init: str = "signed_kaiming_constant"
    seed: int = 0
    density: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.constructor, str) and not callable(self.constructor):
            raise RefusedError(
                f"a constructor is a callable, or its path 'package.module:name'; got {shown(self.constructor)}; correct it"
            )
        if not isinstance(self.kwargs, dict) or not all(isinstance(name, str) for name in self.kwargs):
            raise RefusedError(f"kwargs are a constructor's keywords by name; got {shown(self.kwargs)}; pass a dict")
        one_of(self.init, "init", INITIALISATIONS)
        object.__setattr__(self, "seed", count(self.seed, "seed", least=-(2**63)))
        if self.density is not None:
            number(self.density, "density, the share that masks keep,", above=0, most=1)
        if self.density is not None and INITIALISATIONS[self.init] is None:
            raise RefusedError("density scales a drawn initialisation; got init='pytorch'; choose kaiming_normal")

    def build(self) -> nn.Module:
        """The network, the same bits for the same recipe; the global random states are left as they were.

        Refused: a constructor that gives another network when it is called again, because it draws from a generator of its own, the
        clock or the operating system. So it is called twice; the first network is gone when the second is made.
        """
        first = digest_of(self.draw())
        net = self.draw()
        if digest_of(net) != first:
            raise RefusedError(
                f"a recipe's constructor gives one network; {_name(self.constructor)} gave two in a row; draw with torch's, numpy's "
                "or random's global generator, which the recipe seeds, or pass Target a network"
            )
        return net

    def draw(self) -> nn.Module:
        """The network by one call of the constructor."""
        with preserved():
            # Importing first: a module that draws or seeds at its import would do so between the seed and the draws.
            make = locate(self.constructor)
            with preserved(derive(self.seed, "target", "constructor")):
                net = make(**self.kwargs)
        if not isinstance(net, nn.Module):
            raise RefusedError(
                f"a recipe's constructor must return an nn.Module; got {type(net).__name__}; check the path"
            )
        draw = INITIALISATIONS[self.init]
        if draw is not None:
            _initialise(net, draw, self.seed, math.sqrt(1 / (self.density or 1.0)))
        return net


def _name(constructor: str | Callable[..., Any]) -> str:
    return constructor if isinstance(constructor, str) else getattr(constructor, "__qualname__", shown(constructor))


def locate(path: str | Callable[..., Any]) -> Callable[..., Any]:
    """The object behind ``"package.module:name"``; a callable is returned as it is."""
    if not isinstance(path, str):
        return path
    module, _, name = path.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RefusedError(f"a path must read 'package.module:name' and exist; got {path!r} ({error})") from error
    return found


@torch.no_grad()
def _initialise(net: nn.Module, draw: Callable[[Tensor, torch.Generator], Tensor], seed: int, scale: float) -> None:
    for prefix, layer in net.named_modules():
        parameters = dict(layer.named_parameters(prefix, recurse=False))
        drawn = [name for name, tensor in parameters.items() if tensor.ndim >= 2]
        for name in drawn:
            parameters[name].copy_(draw(parameters[name], generator(seed, "target", name)) * scale)
        for tensor in parameters.values():
            if drawn and tensor.ndim < 2:
                tensor.zero_()
