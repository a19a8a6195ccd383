"""Modulators as data: what JSON must say to build one again, from a closed table of kinds, sources and bodies."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import FLOATS, count, flag, floating
from neuromod.bank.classes import KINDS, SOURCES, Classes
from neuromod.errors import RefusedError
from neuromod.kinds import Kind
from neuromod.kinds.bits import packed_size
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator, by_site
from neuromod.sources.base import Row, Source
from neuromod.sources.mixture import SEALED
from neuromod.target.sites import Site
from neuromod.target.target import Target


@dataclass(frozen=True)
class Record:
    """One modulator as data; ``kind``, ``source`` and ``arguments["body"]`` are names in ``classes``, never paths.

    Args:
        name: of the modulator in its model.
        kind: name of the kind's class.
        fields: the kind's own, for JSON.
        source: name of the source's class.
        arguments: what that class is called with (`Source.arguments`).
        sites: where it acts.
        seed: of its draws.
        identity: whether it starts at the target.
        dtype: of its numbers, "float32" say; None (and no part of the file): that of the target.
        classes: what the names mean; no part of the file.

    """

    name: str
    kind: str
    fields: dict[str, Any]
    source: str
    arguments: dict[str, Any]
    sites: tuple[Site, ...]
    seed: int
    identity: bool
    dtype: str | None = None
    classes: Classes = field(default_factory=Classes, compare=False, repr=False)

    @classmethod
    def of(cls, name: str, modulator: Modulator, classes: Classes) -> "Record":
        """The record of a modulator; refuses one that JSON can't say.

        Args:
            name: of the modulator in its model.
            modulator: a bound one.
            classes: of the model (`Classes.of_model`).

        """
        kind, source = modulator.kind, modulator.source
        said = {f.name: getattr(kind, f.name) for f in fields(kind)}
        # Options by keyword alone came after the first stores, which say nothing of them.
        unsaid = {f.name for f in fields(kind) if f.kw_only and said[f.name] == f.default}
        options = {n: list(v) if isinstance(v, tuple) else v for n, v in said.items() if n not in unsaid}
        kept = (type(kind).__name__, options, type(source).__name__, source.arguments())
        dtype = None if modulator.dtype is None else str(modulator.dtype).removeprefix("torch.")
        return cls(name, *kept, modulator.sites, modulator.seed, modulator.identity, dtype, classes)

    def data(self) -> dict[str, Any]:
        """The record for JSON."""
        sites = [asdict(site) | {"shape": list(site.shape)} for site in self.sites]
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "classes"}
        if self.dtype is None:
            del said["dtype"]  # stores of before say none
        return said | {"sites": sites}

    @classmethod
    def parse(cls, data: Mapping[str, Any], classes: Classes) -> "Record":
        """The record of `data`; TypeError, KeyError or ValueError where something is missing or strange.

        Refused: a kind, a source or a body that is not in ``classes``.
        """
        sites = tuple(Site(**site | {"shape": tuple(map(int, site["shape"]))}) for site in data["sites"])
        record = cls(**{**data, "sites": sites, "classes": classes})
        texts, tables = (record.name, record.kind, record.source), (record.fields, record.arguments)
        if not all(isinstance(t, str) for t in texts) or not all(isinstance(t, dict) for t in tables):
            raise ValueError("a modulator has names, fields and arguments")
        count(record.seed, "the seed of a modulator", least=-(2**63))
        flag(record.identity, "identity")
        if record.dtype is not None:
            floating(record.dtype)
        classes.require("kind", record.kind)
        classes.require("source", record.source)
        if "body" in record.arguments:
            classes.require("body", record.arguments["body"])
        if record.source in SOURCES and record.arguments.get("tasks") not in ([], None):
            raise ValueError("a source in a store has no tasks; they lie in files of their own")
        return record

    @property
    def made(self) -> Kind:
        """The kind itself."""
        kind = self.classes.kinds[self.kind]
        known = {f.name: f.kw_only for f in fields(kind)}
        if not set(self.fields) <= set(known) or not all(known[name] for name in set(known) - set(self.fields)):
            raise ValueError(f"{self.kind} has other fields than {sorted(self.fields)}")
        return kind(**self.fields)

    @property
    def strange(self) -> list[str]:
        """Names of its kind, source and body that are not neuromod's own."""
        own = [n for n, table in ((self.kind, KINDS), (self.source, SOURCES)) if n not in table]
        return [*own, *([self.arguments["body"]] if "body" in self.arguments else [])]

    @cached_property
    def reads(self) -> str:
        """What the source reads; a user's own is asked itself."""
        if self.source == "Table":
            return "nothing" if self.arguments["tasks"] is None else "task"
        if self.source in SOURCES:
            return str(self.arguments["reads"])
        return self._source({}).reads

    def build(self, target: Target, shared: Row) -> Modulator:
        """The modulator, without tasks; ``shared`` is the state of its source, or {}."""
        now, called = target.tensors(), target.probe.calls
        for site in self.sites:
            there = site.name in called if site.role == "output" else site.name in now
            if not there or (site.role != "output" and tuple(now[site.name].shape) != site.shape):
                raise RefusedError(
                    f"a site is a place in the target; {site.role} {site.name!r} is not; config.json is odd"
                )
        source = self._source(shared)
        return Modulator(self.made, source, self.sites, seed=self.seed, identity=self.identity, dtype=self.dtype)

    def _source(self, shared: Row) -> Source:
        # A body that the user's function makes is drawn: the global random state is left as it was.
        with torch.random.fork_rng(devices=[]):
            return self.classes.sources[self.source](**self._options(shared))

    def _options(self, shared: Row) -> dict[str, Any]:
        options = dict(self.arguments)
        if "body" in options:
            options["body"] = self.classes.bodies[options["body"]]
        if options.get("experts") == SEALED:
            head = "experts."
            options["experts"] = {k.removeprefix(head): v for k, v in shared.items() if k.startswith(head)}
        return options

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
                self._check_part(site, part, value, what)
            wanted = set(self._at_rest(site))
            if set(raws[site.label]) not in ({"bits"}, wanted):
                raise RefusedError(
                    f"a row has the parts {sorted(wanted)}; {what} has {sorted(raws[site.label])} at {site.name!r}; drop it"
                )
            self.made.check_rest(site, raws[site.label])

    @property
    def _rests_as_it_is(self) -> bool:
        """Whether a row at rest, bits apart, is its raw numbers: of neuromod's own kinds that say no other form."""
        return self.kind in KINDS and (self.made.is_mask or type(self.made).at_rest is Kind.at_rest)

    def _at_rest(self, site: Site) -> dict[str, tuple[int, ...]]:
        """Shapes of what the kind freezes to, where it is not bits: those of its raw numbers, or of a user's own form."""
        if self._rests_as_it_is:
            return self.made.shapes(site)
        return {part: tuple(value.shape) for part, value in self.made.at_rest(site).items()}

    def _check_part(self, site: Site, part: str, value: Tensor, what: str) -> None:
        wanted = (packed_size(*self.made.digits(site)),) if part == "bits" else self._at_rest(site).get(part)
        shape = tuple(value.shape)
        fits = wanted == shape
        if wanted is not None and self.made.per_task:  # such a field is the length of the first axis, a head's width
            fits = len(shape) == len(wanted) and shape[1:] == wanted[1:]
        if not fits or value.dtype not in self._dtypes(site, part):
            raise RefusedError(
                f"{part!r} at {site.name!r} of {self.name!r} has the shape {wanted}; {what} has {shape}, {value.dtype}; "
                "the file is damaged"
            )

    def _dtypes(self, site: Site, part: str) -> tuple[torch.dtype, ...]:
        """What a part at rest may be of: bits are bytes, numbers of neuromod's kinds are real floats, a user's own as they freeze."""
        if part == "bits":
            return (torch.uint8,)
        own = FLOATS[0] if self._rests_as_it_is else self.made.at_rest(site)[part].dtype
        return FLOATS if own in FLOATS else (own,)

    def numbers(self) -> int:
        """How many numbers its source holds when it is built without tasks, about; a user's own source is not asked."""
        rows = sum(math.prod(shape) for site in self.sites for shape in self.made.shapes(site).values())
        said = {name: self.arguments.get(name) for name in ("rank", "experts", "labels", "chunk", "chunk_code")}
        many = {name: value if isinstance(value, int) else 1 for name, value in said.items()}
        hidden = self.arguments.get("hidden", 1)
        widths = [hidden] if isinstance(hidden, int) else list(hidden)
        read = math.prod(int(n or 1) for n in self.arguments.get("code", ()))
        body: int = sum(a * b for a, b in pairwise([max(read, many["labels"]), *widths])) + many["labels"] ** 2
        if self.source == "Hypernet":
            pieces = 0 if said["chunk"] is None else -(-rows // max(many["chunk"], 1)) * many["chunk_code"]
            return body + pieces + (many["chunk"] if pieces else rows) * widths[-1]
        return body + rows * many["rank"] * many["experts"] if self.source in SOURCES else rows


def live(model: Modulated) -> tuple[int, ...]:
    """The tasks that some modulator still learns."""
    return tuple(sorted({task for m in model.readers("task").values() for task in m.source.tasks()}))


def shared_state(model: Modulated) -> Row:
    """What serves all tasks, by ``modulator/key``: the state of sources that do not read the task.

    A source that reads the task has given every sealed task its row, and none of them needs it any more.
    """
    return {
        f"{name}/{key}": value.detach().cpu().contiguous().clone()
        for name, modulator in model.named_modulators().items()
        if modulator.reads != "task"
        for key, value in modulator.source.state_dict().items()
    }
