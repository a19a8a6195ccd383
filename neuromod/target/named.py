"""Parameters of a network chosen by name: weights, biases, and any other by its exact name."""

from collections.abc import Sequence
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import ParametrizationList

from neuromod.errors import RefusedError
from neuromod.target.axes import acting
from neuromod.target.probe import Probe
from neuromod.target.sites import Pattern, choose

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
Unused = Literal["refuse", "skip"]


def parameters(
    net: nn.Module,
    probe: Probe,
    patterns: Sequence[Pattern],
    exclude: Pattern | Sequence[Pattern],
    unused: Unused,
    called: Literal["weight", "bias"],
) -> list[str]:  # reason: what a selector of Target is given
    """Names of the weights, or of the biases, that patterns choose among; a parameter of any other kind by its exact name.

    Args:
        net: the network.
        probe: what it does.
        patterns: globs, regular expressions, types, functions; none means all.
        exclude: patterns left out.
        unused: what is done about parameters that do not act.
        called: what is chosen among.

    """
    own = dict(net.named_parameters())
    first = {id(p): name for name, p in own.items()}
    alias = {n: first[id(p)] for n, p in net.named_parameters(remove_duplicate=False)}
    named = tuple(alias[p] if isinstance(p, str) and p in alias else p for p in patterns)
    exact = {p for p in named if isinstance(p, str)}
    candidates = {}
    for name in own:
        if name in exact or _is(net, name, called):
            others = tuple(n for n, canonical in alias.items() if canonical == name)
            modules = tuple(n.rpartition(".")[0] for n in others)
            candidates[name] = ((name, *others, *modules), net.get_submodule(name.rpartition(".")[0]))
    _refuse_parametrized(net, exact)
    return acting(net, probe, choose(candidates, named or ("*",), exclude, called), "weight", unused)


def _is(net: nn.Module, name: str, called: str) -> bool:
    prefix, _, leaf = name.rpartition(".")
    module, parameter = net.get_submodule(prefix), net.get_parameter(name)
    behind = isinstance(module, ParametrizationList) and called in prefix.rpartition(".")[2]
    if called == "bias":
        return called in leaf or behind
    return (called in leaf or behind) and parameter.ndim >= 2 and not isinstance(module, NORMS)


def _refuse_parametrized(net: nn.Module, patterns: set[str]) -> None:
    for name, module in net.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        for leaf in module.parametrizations:
            full = f"{name}.{leaf}".lstrip(".")
            if full in patterns:
                own = module.parametrizations.get_submodule(leaf).named_parameters(f"{name}.parametrizations.{leaf}")
                stored = " or ".join(repr(n.lstrip(".")) for n, _ in own)
                raise RefusedError(
                    f"{full!r} is computed by a parametrization; modulate {stored}, or outputs({name!r})"
                )
