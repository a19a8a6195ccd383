"""Where a modulation acts: a `Site`, and how sites are chosen. Says where, never what."""

import fnmatch
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from neuromod.arguments import shown as _shown
from neuromod.errors import AbsentError, RefusedError, nearest

Pattern = str | re.Pattern[str] | type | Callable[[str, nn.Module], bool]
"""A glob over names, a compiled regular expression (searched), a module type, or ``f(name, module) -> bool``."""


@dataclass(frozen=True)
class Site:
    """A place in a target where a modulation acts. `Target.weights`, `outputs`, `norms`, `statistics` and `head` make them.

    Args:
        name: of the tensor (``weight`` and ``buffer`` sites) or of the module (``output`` sites).
        role: "weight", "output" or "buffer".
        shape: of the tensor, or ``(channels,)`` at an output.
        module: name of the module that owns the tensor or puts the output out; "" is the network itself.
        channel: axis of the channels in that output (of a weight: in what goes into its layer and comes out of it).
        batch: axis of the batch there; None where no axis follows the batch (rows are folded or windowed), or where a weight is
            used in a way that is not known. Samples can then be told apart only by splitting the batch.
        bias: whether the layer of a weight has a bias.

    """

    name: str
    role: Literal["weight", "output", "buffer"]
    shape: tuple[int, ...]
    module: str
    channel: int = 0
    batch: int | None = None
    bias: bool = False

    @property
    def label(self) -> str:
        """The name with ``/`` for ``.``: what state-dict keys are made of."""
        return self.name.replace(".", "/")

    @property
    def fan_in(self) -> int:
        """Inputs of one unit of a weight ``(out, in, *kernel)``: ``in * prod(kernel)``."""
        return math.prod(self.shape[1:]) if len(self.shape) > 1 else self.shape[0]


def matches(pattern: Pattern, names: Sequence[str], module: nn.Module) -> bool:
    """Whether a pattern picks a candidate.

    Args:
        pattern: a glob, a compiled regular expression (searched), a module type, or ``f(name, module) -> bool``.
        names: those that the candidate answers to, first the tensor's or module's own.
        module: the module itself, or the one that owns the tensor.

    """
    if isinstance(pattern, str):
        return any(fnmatch.fnmatchcase(name, pattern) for name in names)
    if isinstance(pattern, re.Pattern):
        return any(pattern.search(name) for name in names)
    if isinstance(pattern, type):
        return isinstance(module, pattern)
    return bool(pattern(names[0], module))


def choose(
    candidates: Mapping[str, tuple[tuple[str, ...], nn.Module]],
    patterns: Sequence[Pattern],
    exclude: Pattern | Sequence[Pattern],
    what: str,
) -> list[str]:
    """Names of the candidates that any pattern picks and no exclusion does, in the order of the network.

    Refused: a pattern or an exclusion that matches nothing, even beside others that match, with the nearest names that exist.

    Args:
        candidates: of every name (the names it answers to, its module).
        patterns: what to take.
        exclude: one pattern or several to leave out.
        what: a candidate is, for the refusal: "weight", "module", "norm".

    """
    excluded: list[Pattern] = list(exclude) if isinstance(exclude, list | tuple) else [exclude]  # type: ignore[list-item]
    for pattern in (*patterns, *excluded):
        if not isinstance(pattern, str | re.Pattern | type) and (
            not callable(pattern) or isinstance(pattern, nn.Module)
        ):
            raise RefusedError(
                "a pattern is a glob over names, a compiled regular expression, a type, or f(name, module) -> bool; got "
                f"{_shown(pattern)}; pass one of these"
            )
        if not any(matches(pattern, names, module) for names, module in candidates.values()):
            known = [n for names, _ in candidates.values() for n in names]
            shown = pattern if isinstance(pattern, str) else getattr(pattern, "__name__", str(pattern))
            none = "the network has none" + " of torch's; choose others with outputs(Type, channel=axis)" * (
                what == "norm"
            )
            hint = f"the nearest are {nearest(str(shown), known)}" if known else none
            refusal = RefusedError if known else AbsentError
            raise refusal(f"a pattern must match at least one {what}; got {shown!r}; {hint}")
    return [
        name
        for name, (names, module) in candidates.items()
        if any(matches(p, names, module) for p in patterns) and not any(matches(p, names, module) for p in excluded)
    ]


def refuse_sites(sites: Any) -> None:
    """Refuse what is no sequence of sites: a name, say."""
    if isinstance(sites, str | Site) or not isinstance(sites, Sequence) or not all(isinstance(s, Site) for s in sites):
        raise RefusedError(
            f"a modulator takes the sites that a target chose; got {_shown(sites)}; pass target.weights('*'), say"
        )
