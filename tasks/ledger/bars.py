"""What the ledger is to hold: rows with their bars and published values, written down before any run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from tasks.errors import UserError, nearest
from tasks.runs.files import canonical, digest

Verdict = Literal["held", "missed", "no bar"]


@dataclass(frozen=True)
class Bar:
    """What the mean over the seeds is held to: mean `op` value, or mean - (mean of the row `above`) `op` value."""

    op: Literal[">=", "<="]
    value: float
    above: str | None = None

    def __str__(self) -> str:
        return f"{self.op} {self.value:g}" + (f" above {self.above}" if self.above else "")


@dataclass(frozen=True)
class Published:
    """A number of a paper, with its table or page, and what differs from our setting."""

    value: float
    source: str
    note: str = ""


@dataclass(frozen=True)
class Entry:
    """One row to be run: an experiment with overrides and seeds, and the number of result.json that is reported."""

    row: str
    title: str
    experiment: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    metric: str
    bar: Bar | None = None
    published: Published | None = None
    note: str = ""

    @property
    def sha256(self) -> str:
        """SHA-256 of all that a result depends on or is held against: everything but the title and the note."""
        held_to = None if self.bar is None else [self.bar.op, self.bar.value, *([self.above] if self.above else [])]
        beside = None if self.published is None else [self.published.value, self.published.source, self.published.note]
        parts = [self.row, self.experiment, self.overrides, self.seeds, self.metric, held_to, beside]
        return digest(canonical(parts))

    @property
    def above(self) -> str | None:
        """The row whose mean is subtracted before the bar is applied."""
        return None if self.bar is None else self.bar.above

    def verdict(self, mean: float, beside: float | None = None) -> Verdict:
        """Whether the bar is held; ``beside`` is the mean of the row `above`."""
        if self.bar is None:
            return "no bar"
        mean -= beside or 0.0
        return "held" if (mean >= self.bar.value if self.bar.op == ">=" else mean <= self.bar.value) else "missed"


def load_bars(path: str | PathLike[str]) -> dict[str, Entry]:
    """The entries of a YAML file by row id, in its order. UserError for a key unknown, missing or written twice."""
    if not Path(path).is_file():
        raise UserError(f"the bars stand in a YAML file; {path} is none; create it or correct the path")
    try:
        # OmegaConf and not plain YAML, which takes the second of two equal row ids without a word.
        content = OmegaConf.to_container(OmegaConf.load(Path(path)))
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path} must be YAML; got {' '.join(str(error).split())}; correct it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must map row ids to entries; got a {type(content).__name__}; correct it")
    entries: dict[str, Entry] = {}
    for row, fields in content.items():
        entries[str(row)] = made = entry(str(row), fields)
        _check_above(made, entries)
    return entries


def _check_above(made: Entry, before: Mapping[str, Entry]) -> None:
    """A bar above another row needs that row before its own, of the same seeds and of a metric of the same name.

    Two heads or two routers may stand side by side: names are those at the end, ``test_mean.-1`` of ``meta.iid.test_mean.-1``.
    """
    if made.above is None:
        return
    other = None if made.above == made.row else before.get(made.above)
    if other is None:
        known = [row for row in before if row != made.row]
        rule = f"{made.row}.bar: above names a row that stands before it"
        raise UserError(f"{rule}; got {made.above!r}; nearest: {nearest(made.above, known)}")
    if _last_name(made.metric) != _last_name(other.metric):
        rule = f"{made.row}.bar: a row above another has a metric of its name"
        raise UserError(f"{rule}; got {made.metric!r}, {made.above} has {other.metric!r}; correct one")
    if made.seeds != other.seeds:
        rule = f"{made.row}.bar: a row above another has its seeds"
        raise UserError(f"{rule}; got {made.seeds!r}, {made.above} has {other.seeds!r}; correct one")


def _last_name(metric: str) -> str:
    """The last name of a dotted metric, with the place in a list where there is one."""
    *_, name, last = ["", *metric.split(".")]
    return f"{name}.{last}" if last.lstrip("-").isdigit() else last


def entry(row: str, fields: Any) -> Entry:
    """One entry from its fields. UserError that names the row and the field."""
    given = _fields(row, fields, ("title", "experiment", "seeds", "metric"), ("overrides", "bar", "published", "note"))
    seeds = tuple(_list(row, "seeds", given["seeds"], int))
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"{row}: seeds must be different and at least one; got {list(seeds)}; correct it")
    overrides = tuple(_list(row, "overrides", given.get("overrides", []), str))
    if odd := [item for item in overrides if "=" not in item]:
        raise UserError(f"{row}: an override is key=value; got {odd[0]!r}; correct it")
    return Entry(
        row=row,
        title=_text(row, "title", given["title"]),
        experiment=_text(row, "experiment", given["experiment"]),
        overrides=overrides,
        seeds=seeds,
        metric=_text(row, "metric", given["metric"]),
        bar=_bar(row, given.get("bar")),
        published=_published(row, given.get("published")),
        note=_text(row, "note", given.get("note", "")),
    )


def _bar(row: str, fields: Any) -> Bar | None:
    if fields is None:
        return None
    given = _fields(f"{row}.bar", fields, ("op", "value"), ("above",))
    if given["op"] not in (">=", "<="):
        raise UserError(f"{row}.bar: op must be '>=' or '<='; got {given['op']!r}; correct it")
    above = _text(f"{row}.bar", "above", given["above"]) if "above" in given else None
    return Bar(given["op"], _number(f"{row}.bar", given["value"]), above)


def _published(row: str, fields: Any) -> Published | None:
    if fields is None:
        return None
    where = f"{row}.published"
    given = _fields(where, fields, ("value", "source"), ("note",))
    source, note = _text(where, "source", given["source"]), _text(where, "note", given.get("note", ""))
    return Published(_number(where, given["value"]), source, note)


def _fields(where: str, fields: Any, needed: tuple[str, ...], more: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(fields, dict):
        raise UserError(f"{where} must have the fields {', '.join(needed)}; got {fields!r}; correct it")
    for key in fields:
        if key not in needed + more:
            raise UserError(f"{where} has no field {key!r}; nearest: {nearest(str(key), needed + more)}")
    if missing := [key for key in needed if key not in fields]:
        raise UserError(f"{where} needs the field {missing[0]!r}; got {', '.join(fields)}; add it")
    return fields


def _text(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} must be text; got {value!r}; put it in quotes")
    return value


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: value must be a finite number; got {value!r}; correct it")
    return float(value)


def _list(where: str, key: str, value: Any, kind: type) -> list[Any]:
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        raise UserError(f"{where}: {key} must be a list of {kind.__name__}; got {value!r}; correct it")
    return value
