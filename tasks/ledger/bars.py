"""The bars: rows with their bars and published values, written down by hand before any run.

``results/EXPERIMENT/bars.yaml`` has ``seeds`` once and ``rows`` by their id; a row may have seeds of its own.
"""

import math
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tasks.errors import UserError, nearest
from tasks.ledger.entry import Bar, Entry, Form, Published

NAME = "bars.yaml"
OPTIONAL = ("seeds", "overrides", "bar", "published", "note", "was", "not_run")
# A number as YAML 1.2 and the command line read it: 1e-3 too, which YAML 1.1 takes for text.
FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.[\d_]+)([eE][-+]?\d+)?$")


def load_bars(results: str | PathLike[str]) -> dict[str, Entry]:
    """All entries of a results folder by row id: experiments in alphabetical order, the rows of each in that of its file.

    UserError for a folder without a file of bars, for a key that is unknown, missing or written twice, for a row in two
    files, and for a bar above a row that is unknown, of other seeds or metric, or above the row itself in a circle.
    """
    root = Path(results)
    if (root / NAME).exists():
        raise UserError(f"bars stand with their experiment; got {root / NAME}; move its rows to EXPERIMENT/{NAME}")
    files = sorted(root.rglob(NAME), key=lambda path: path.parts)
    if not files:
        raise UserError(f"bars stand in FOLDER/EXPERIMENT/{NAME}; {root} has none; create one or correct the folder")
    found: dict[str, Entry] = {}
    for path in files:
        for row, made in read_bars(path.read_text(encoding="utf-8"), path.parent.relative_to(root).as_posix()).items():
            if row in found:
                places = f"{found[row].experiment} and {made.experiment}"
                raise UserError(f"a row stands once in all bars; {row} is in {places}; give one another id")
            found[row] = made
    for made in found.values():
        _check_above(made, found)
    return found


def read_bars(text: str, experiment: str) -> dict[str, Entry]:
    """The entries of one file's text, bars above other rows unchecked."""
    where = f"{experiment}/{NAME}"
    given = _fields(where, read_yaml(text, where), ("rows",), ("seeds",))
    if not isinstance(given["rows"], dict) or not given["rows"]:
        raise UserError(f"{where}: rows must map row ids to entries; got {given['rows']!r}; correct it")
    return {str(row): entry(str(row), fields, experiment, given.get("seeds")) for row, fields in given["rows"].items()}


def read_yaml(text: str, where: str) -> Any:
    """YAML in which a key stands once and 1e-3 is a number; UserError that names `where`."""
    try:
        return yaml.load(text, Loader=_Strict)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where} must be YAML; got {' '.join(str(error).split())}; correct it") from error


def runs_first(bars: Mapping[str, Entry]) -> list[str]:
    """All rows, each after the row that its bar is above."""
    order: dict[str, None] = {}
    for row in bars:
        chain: list[str] = []
        at: str | None = row
        while at is not None:
            chain.append(at)
            at = bars[at].above
        order |= dict.fromkeys(reversed(chain))
    return list(order)


class _Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain YAML takes the second of two equal keys without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"the key {twice!r} twice")
        return super().construct_mapping(node, deep=deep)


_Strict.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def _check_above(entry: Entry, bars: Mapping[str, Entry]) -> None:
    """A bar above another row needs a row of the same seeds and of a metric of the same name, and no circle.

    Two heads or two predictors may stand side by side: names are those at the end, ``test_mean.-1`` of ``meta.iid.test_mean.-1``.
    """
    if entry.above is None:
        return
    other = bars.get(entry.above)
    if other is None:
        known = [row for row in bars if row != entry.row]
        raise UserError(
            f"{entry.row}.bar: above names a row; got {entry.above!r}; nearest: {nearest(entry.above, known)}"
        )
    if _last_name(entry.metric) != _last_name(other.metric):
        rule = f"{entry.row}.bar: a row above another has a metric of its name"
        raise UserError(f"{rule}; got {entry.metric!r}, {entry.above} has {other.metric!r}; correct one")
    if entry.seeds != other.seeds:
        rule = f"{entry.row}.bar: a row above another has its seeds"
        raise UserError(f"{rule}; got {entry.seeds!r}, {entry.above} has {other.seeds!r}; correct one")
    chain = [entry.row]
    while (below := bars[chain[-1]].above) is not None and below in bars:
        if below in chain:
            circle = " above ".join([*chain[chain.index(below) :], below])
            raise UserError(f"{entry.row}.bar: no row stands above itself; got {circle}; take one bar out")
        chain.append(below)


def _last_name(metric: str) -> str:
    """The last name of a dotted metric, with the place in a list where there is one."""
    *_, name, last = ["", *metric.split(".")]
    return f"{name}.{last}" if last.lstrip("-").isdigit() else last


def entry(row: str, fields: Any, experiment: str, seeds: Any = None) -> Entry:
    """One entry from its fields. UserError that names row and field.

    Args:
        row: its id.
        fields: as YAML has them.
        experiment: whose file it stands in.
        seeds: those of its file, for a row that has none of its own.

    """
    given = _fields(row, fields, ("title", "metric"), OPTIONAL)
    own = given.get("seeds", seeds)
    if own is None:
        raise UserError(f"{row} needs the field 'seeds', its own or of its file; got neither; add it")
    found = tuple(_list(row, "seeds", own, int))
    if not found or len(set(found)) < len(found):
        raise UserError(f"{row}: seeds must be different and at least one; got {list(found)}; correct it")
    form = Form(experiment, _overrides(row, given.get("overrides", [])), _text(row, "metric", given["metric"]))
    return Entry(
        row=row,
        title=_text(row, "title", given["title"]),
        experiment=form.experiment,
        overrides=form.overrides,
        seeds=found,
        metric=form.metric,
        bar=_bar(row, given.get("bar")),
        published=_published(row, given.get("published")),
        note=_text(row, "note", given.get("note", "")),
        was=_was(row, given.get("was"), form),
        not_run=_text(row, "not_run", given.get("not_run", "")),
    )


def _overrides(row: str, items: Any) -> tuple[str, ...]:
    overrides = tuple(_list(row, "overrides", items, str))
    if odd := [item for item in overrides if "=" not in item]:
        raise UserError(f"{row}: an override is key=value; got {odd[0]!r}; correct it")
    return overrides


def _was(row: str, fields: Any, now: Form) -> Form | None:
    """The former form: what it leaves out is as it is today."""
    if fields is None:
        return None
    where = f"{row}.was"
    given = _fields(where, fields, (), ("experiment", "overrides", "metric"))
    experiment = _text(where, "experiment", given.get("experiment", now.experiment))
    overrides = _overrides(where, given["overrides"]) if "overrides" in given else now.overrides
    return Form(experiment, overrides, _text(where, "metric", given.get("metric", now.metric)))


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
        raise UserError(f"{where} must have the fields {', '.join(needed + more)}; got {fields!r}; correct it")
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
