"""What a store may build by name: neuromod's own kinds and sources, and what the user passes; never what a file points to."""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from neuromod import kinds
from neuromod.arguments import shown
from neuromod.errors import RefusedError
from neuromod.kinds import Kind
from neuromod.modulated import Modulated
from neuromod.sources.base import Source
from neuromod.sources.bodies import Body, SetEncoder
from neuromod.sources.hypernet import Hypernet
from neuromod.sources.lowrank import LowRank
from neuromod.sources.mixture import Mixture
from neuromod.sources.shared import Shared
from neuromod.sources.subspace import Subspace
from neuromod.sources.table import Table

KINDS: Mapping[str, type[Kind]] = {name: getattr(kinds, name) for name in kinds.__all__ if name != "Kind"}
SOURCES: Mapping[str, type[Source]] = {cls.__name__: cls for cls in (Hypernet, LowRank, Mixture, Subspace, Table)}
OWN = {*KINDS, *SOURCES, Body.__name__, SetEncoder.__name__}
"""Names that mean neuromod's own and can't be given to anything else."""


@dataclass(frozen=True)
class Classes:
    """A closed table from the names that a store may use to what they build, for `Store` and `from_pretrained`.

    Args:
        kinds: classes of kinds, neuromod's own and the user's.
        sources: classes of sources, likewise.
        bodies: functions without arguments that make the module between an embedding and the head of a shared source.

    """

    kinds: Mapping[str, type[Kind]] = field(default_factory=lambda: KINDS)
    sources: Mapping[str, type[Source]] = field(default_factory=lambda: SOURCES)
    bodies: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)

    @classmethod
    def of(cls, things: "Iterable[Any] | Classes") -> "Classes":
        """The table with the user's ``classes=[MyKind, MySource, my_body]`` in it, each under its ``__name__``.

        Refused: what can't be called, has no name (a lambda, a partial), or has one that is taken.
        """
        if isinstance(things, Classes):
            return things
        own: dict[str, Any] = {}
        if isinstance(things, str | bytes | torch.Tensor) or not isinstance(things, Iterable):
            raise RefusedError(
                f"classes= are kinds, sources and functions in a list; got {shown(things)}; pass [MyKind]"
            )
        for thing in things:
            name = getattr(thing, "__name__", None)
            if not callable(thing) or not isinstance(name, str) or not name.isidentifier():
                raise RefusedError(
                    f"classes= are kinds, sources, and functions that make a body, each with a name; got {thing!r}; name it"
                )
            if name in OWN or own.get(name, thing) is not thing:
                taken = "neuromod's own" if name in OWN else "another of them"
                raise RefusedError(f"a name in classes= means one thing; {name!r} is {taken}; rename it")
            own[name] = thing
        chosen = {n: t for n, t in own.items() if isinstance(t, type) and issubclass(t, Kind)}
        feeding = {n: t for n, t in own.items() if isinstance(t, type) and issubclass(t, Source)}
        bodies = {n: t for n, t in own.items() if n not in chosen and n not in feeding}
        return cls({**KINDS, **chosen}, {**SOURCES, **feeding}, bodies)

    @classmethod
    def of_model(cls, model: Modulated) -> "Classes":
        """The table with what a model is made of, so that a store of it can be read without naming anything.

        Refused: a kind or a source under the name of one of neuromod's own.
        """
        modulators = model.named_modulators().values()
        classes = dict.fromkeys(c for m in modulators for c in (type(m.kind), type(m.source)))
        known = {*KINDS.values(), *SOURCES.values()}
        table = cls.of(c for c in classes if c not in known)
        sources = [m.source for m in modulators if isinstance(m.source, Shared)]
        bodies = {s.body_name: s.own_body for s in sources if s.body_name is not None and s.own_body is not None}
        taken = [name for name in bodies if name in {*OWN, *table.kinds, *table.sources}]
        if taken:
            raise RefusedError(f"a name in a store means one thing; {taken[0]!r} is a body here and a class; rename it")
        return cls(table.kinds, table.sources, {name: partial(copy.deepcopy, body) for name, body in bodies.items()})

    def require(self, what: str, name: object) -> None:
        """Refuse the name of a kind, source or body that is not in the table, and say what to pass."""
        table: Mapping[str, Any] = {"kind": self.kinds, "source": self.sources, "body": self.bodies}[what]
        if name not in table:
            raise RefusedError(
                f"a store builds neuromod's own classes and those that it is given; it has the {what} {str(name)!r}, which is "
                f"neither; pass classes=[{name}]"
            )
