"""Modulators as data: what JSON must say to build one again, from a closed table of neuromod's own kinds and sources."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from neuromod import kinds
from neuromod.errors import RefusedError, nearest
from neuromod.kinds import Kind
from neuromod.kinds.bits import packed_size
from neuromod.modulator import Modulator, by_site
from neuromod.sources.base import Row, Source
from neuromod.sources.bodies import Body, SetEncoder
from neuromod.sources.hypernet import Hypernet
from neuromod.sources.lowrank import LowRank
from neuromod.sources.mixture import Mixture
from neuromod.sources.shared import Shared
from neuromod.sources.table import Table
from neuromod.target.sites import Site
from neuromod.target.target import Target

KINDS: dict[str, type[Kind]] = {name: getattr(kinds, name) for name in kinds.__all__ if name != "Kind"}
SOURCES: dict[str, type[Source]] = {cls.__name__: cls for cls in (Hypernet, LowRank, Mixture, Table)}
OPTIONS: dict[str, tuple[str, ...]] = {
    "Hypernet": ("chunk", "chunk_code"),
    "LowRank": ("rank",),
    "Mixture": ("form",),
    "Table": (),
}
"""Arguments of a source that it keeps under their own name, beside those that all shared sources have."""
SEALED_EXPERTS = "sealed"


@dataclass(frozen=True)
class Record:
    """One modulator as data; ``kind`` and ``source`` are names in `KINDS` and `SOURCES`, never paths."""

    name: str
    kind: str
    fields: dict[str, Any]
    source: str
    arguments: dict[str, Any]
    sites: tuple[Site, ...]
    seed: int
    identity: bool

    @classmethod
    def of(cls, name: str, modulator: Modulator) -> "Record":
        """The record of a modulator; refuses one that JSON can't say."""
        kind, source = modulator.kind, modulator.source
        for thing, table in ((kind, KINDS), (source, SOURCES)):
            if table.get(type(thing).__name__) is not type(thing):
                raise RefusedError(
                    f"a store holds neuromod's own kinds and sources; {name!r} has {type(thing).__name__}, which no other "
                    "program could build from its name; keep it with state_dict()"
                )
        options = {f.name: getattr(kind, f.name) for f in fields(kind)}
        kept = (type(kind).__name__, options, type(source).__name__, _arguments(name, source))
        return cls(name, *kept, modulator.sites, modulator.seed, modulator.identity)

    def data(self) -> dict[str, Any]:
        """The record for JSON."""
        return asdict(self) | {"sites": [asdict(site) | {"shape": list(site.shape)} for site in self.sites]}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "Record":
        """The record of `data`; TypeError, KeyError or ValueError where something is missing or strange."""
        sites = tuple(Site(**site | {"shape": tuple(map(int, site["shape"]))}) for site in data["sites"])
        record = cls(**{**data, "sites": sites})
        for what, name, table in (("kind", record.kind, KINDS), ("source", record.source, SOURCES)):
            if name not in table:
                raise RefusedError(
                    f"a store names neuromod's own {what}s; got {name!r}; known are {nearest(str(name), table, 4)}"
                )
        return record

    @property
    def made(self) -> Kind:
        """The kind itself."""
        if set(self.fields) != {f.name for f in fields(KINDS[self.kind])}:
            raise ValueError(f"{self.kind} has other fields than {sorted(self.fields)}")
        return KINDS[self.kind](**self.fields)

    @property
    def reads(self) -> str:
        """What the source reads."""
        if self.source == "Table":
            return "nothing" if self.arguments["tasks"] is None else "task"
        return str(self.arguments["reads"])

    def build(self, target: Target, shared: Row) -> Modulator:
        """The modulator, without tasks; ``shared`` is the state of its source, or {}."""
        now, called = target.tensors(), target.probe.calls
        for site in self.sites:
            there = site.name in called if site.role == "output" else site.name in now
            if not there or (site.role != "output" and tuple(now[site.name].shape) != site.shape):
                raise RefusedError(
                    f"a site is a place in the target; {site.role} {site.name!r} is not; config.json is odd"
                )
        source = SOURCES[self.source](**self._options(shared))
        return Modulator(self.made, source, self.sites, seed=self.seed, identity=self.identity)

    def _options(self, shared: Row) -> dict[str, Any]:
        if self.arguments.get("experts") != SEALED_EXPERTS:
            return self.arguments
        head = "experts."
        return self.arguments | {
            "experts": {key.removeprefix(head): value for key, value in shared.items() if key.startswith(head)}
        }

    def check(self, row: Row, what: str) -> None:
        """Refuse a row at rest that is not one of this modulator: other sites, parts or shapes, or numbers that are not."""
        raws = by_site(row)
        if set(raws) != {site.label for site in self.sites}:
            raise RefusedError(
                f"a row has every site of its modulator; {what} of {self.name!r} has other ones; drop it"
            )
        for site in self.sites:
            for part, value in raws[site.label].items():
                if value.is_floating_point() and not bool(value.isfinite().all()):
                    raise RefusedError(
                        f"numbers at rest are finite; {what} has NaN or infinity at {site.name!r} of {self.name!r}; "
                        "train it again, or calibrate(model, task, data) where they are measured"
                    )
                self._check_shape(site, part, value, what)
            wanted = set(self.made.shapes(site))
            if set(raws[site.label]) not in ({"bits"}, wanted):
                raise RefusedError(
                    f"a row has the parts {sorted(wanted)}; {what} has {sorted(raws[site.label])} at {site.name!r}; drop it"
                )

    def _check_shape(self, site: Site, part: str, value: Tensor, what: str) -> None:
        wanted = (packed_size(math.prod(site.shape)),) if part == "bits" else self.made.shapes(site).get(part)
        shape = tuple(value.shape)
        fits = wanted == shape
        if wanted is not None and self.made.per_task:  # such a field is the length of the first axis, a head's width
            fits = len(shape) == len(wanted) and shape[1:] == wanted[1:]
        if not fits or (value.dtype == torch.uint8) != (part == "bits"):
            raise RefusedError(
                f"{part!r} at {site.name!r} of {self.name!r} has the shape {wanted}; {what} has {shape}, {value.dtype}; "
                "the file is damaged"
            )


def live(modulators: Mapping[str, Modulator]) -> tuple[int, ...]:
    """The tasks that some modulator still learns."""
    return tuple(sorted({t for m in modulators.values() if m.reads == "task" for t in m.source.tasks()}))


def shared_state(modulators: Mapping[str, Modulator]) -> Row:
    """What serves all tasks, by ``modulator/key``: the state of sources that do not read the task.

    A source that reads the task has given every sealed task its row, and none of them needs it any more.
    """
    return {
        f"{name}/{key}": value.detach().cpu().contiguous().clone()
        for name, modulator in modulators.items()
        if modulator.reads != "task"
        for key, value in modulator.source.state_dict().items()
    }


def _arguments(name: str, source: Source) -> dict[str, Any]:
    kept = {key: getattr(source, key) for key in OPTIONS[type(source).__name__]}
    if not isinstance(source, Shared):
        return kept | {"tasks": None if source.reads == "nothing" else []}
    body = source.body.body if isinstance(source.body, SetEncoder) and source.codes.is_set else source.body
    if body is not None and type(body) is not Body:
        raise RefusedError(
            f"a store builds bodies of hidden layers; {name!r} has a {type(body).__name__} of yours; keep it with state_dict()"
        )
    if isinstance(source, Mixture):
        if source.blends and source.reads == "task":
            raise RefusedError(
                f"a store keeps sealed experts for sources that do not read the task; {name!r} does; keep it with state_dict()"
            )
        kept["experts"] = SEALED_EXPERTS if source.blends else source.count
    hidden = source.hidden if isinstance(source.hidden, int) else list(source.hidden)
    codes = {"reads": source.reads, "tasks": [], "code": list(source.codes.shape), "labels": source.codes.labels}
    return kept | codes | {"hidden": hidden, "learn_body": source.learn_body}
