"""Where a modulation acts: a `Site`, and how sites are chosen. Says where, never what."""

import fnmatch
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from neuromod.errors import RefusedError, nearest

Pattern = str | re.Pattern[str] | type | Callable[[str, nn.Module], bool]
"""A glob over names, a compiled regular expression (searched), a module type, or ``f(name, module) -> bool``."""


@dataclass(frozen=True)
class Site:
    """A place in a target where a modulation acts.

    ``name`` is the tensor's name (``weight`` and ``buffer`` sites) or the module's (``output`` sites); ``shape`` is the
    tensor's shape, or ``(channels,)`` at an output. ``channel`` and ``batch`` are axes of the output (of a weight: of what
    goes into its layer and comes out of it); ``batch`` is ``None`` where no axis follows the batch (rows are folded or
    windowed), or where a weight is used in a way that is not known, so that samples can only be told apart by splitting
    the batch.
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
    """Whether a pattern picks the candidate known under ``names`` (first the tensor's or module's own)."""
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
    """The candidates that any pattern picks and no exclusion does, in the order of the network.

    ``candidates`` maps a name to (names it answers to, its module). Refuses a pattern or an exclusion that matches
    nothing, even beside others that match, with the nearest names that exist.
    """
    excluded: list[Pattern] = list(exclude) if isinstance(exclude, list | tuple) else [exclude]  # type: ignore[list-item]
    for pattern in (*patterns, *excluded):
        if not any(matches(pattern, names, module) for names, module in candidates.values()):
            known = [n for names, _ in candidates.values() for n in names]
            shown = pattern if isinstance(pattern, str) else getattr(pattern, "__name__", str(pattern))
            hint = f"the nearest are {nearest(str(shown), known)}" if known else "the network has none"
            raise RefusedError(f"a pattern must match at least one {what}; got {shown!r}; {hint}")
    return [
        name
        for name, (names, module) in candidates.items()
        if any(matches(p, names, module) for p in patterns) and not any(matches(p, names, module) for p in excluded)
    ]
