"""The ledger on disk: ``results/EXPERIMENT/ledger.json`` holds each config and each run once, and rows that refer to them.

- ``configs``, ``data``, ``selections``, ``places``: by a digest of their content; a place is device, machine and versions
- ``runs``: by the hash in their folder's name, with seed, commit and digests
- ``rows``: what was found: values, mean, spread, bar, verdict, seal
- ``unproven``: per row of before proofs were kept, what git can't show about its bar
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.ledger.entry import Entry
from tasks.runs.files import canonical, digest, read_json, strict, write_atomic

Row = dict[str, Any]
NAME = "ledger.json"
TABLES = {"config": "configs", "data": "data", "selection": "selections"}
PLACE = ("device", "machine", "versions")
# Fields of a row in their order; `beside` and `proof` are left out where a row has none.
ROW = (
    *("row", "experiment", "overrides", "metric", "seeds", "values", "mean", "spread", "bar", "verdict", "beside"),
    *("published", "published_dropped", "config", "data", "selection", "command", "commit", "runs", "proof"),
    *("entry_sha256", "seal"),
)
RUN = ("seed", "value", "config_hash", "result_sha256", "command", "commit", "dirty", "resumed", *PLACE, "bars")
WIDTH = 120


@dataclass
class Ledger:
    """The rows of a results folder.

    Args:
        rows: in the order of their files.
        unproven: per row of before proofs were kept, what git can't prove.
        places: per row, the experiment whose file has it.

    """

    rows: list[Row] = field(default_factory=list)
    unproven: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def row(self, name: str) -> Row | None:
        """The row of that id; None where it was not run."""
        return next((row for row in self.rows if row["row"] == name), None)


def load(results: str | PathLike[str]) -> Ledger:
    """What all experiments of a results folder have in their ledgers; nothing where there are none."""
    root, found = Path(results), Ledger()
    for path in sorted(root.rglob(NAME), key=lambda path: path.parts):
        try:
            rows, unproven = unpack(read_json(path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            fault = f"{type(error).__name__}: {error}"
            raise UserError(f"{path} must be a ledger as runs write it; got {fault}; restore it from git") from error
        found.rows += rows
        found.unproven |= unproven
        found.places |= {row["row"]: path.parent.relative_to(root).as_posix() for row in rows}
    return found


def load_ledger(results: str | PathLike[str]) -> list[Row]:
    """The rows of a results folder, each with its config and runs written out, as they were sealed."""
    return load(results).rows


def save(ledger: Ledger, bars: Mapping[str, Entry], results: str | PathLike[str], rows: Sequence[str] = ()) -> None:
    """Write the ledgers of the experiments of the named rows (default: of all), rows in the order of the bars.

    A row goes into the folder of its entry, out of any other that it was read from. A file whose bytes would be the same is
    left alone.

    Args:
        ledger: all rows of the results folder.
        bars: all entries, by row; a row that they do not know stays where it was.
        results: the results folder.
        rows: ids of the rows whose experiments are written.

    """
    order = {name: place for place, name in enumerate(bars)}
    named = [*(rows or bars), *([] if rows else ledger.places)]
    now = {name: bars[name].experiment if name in bars else ledger.places[name] for name in {*named, *ledger.places}}
    before = {ledger.places[name] for name in named if name in ledger.places}
    for folder in sorted({now[name] for name in named} | before):
        own = [row for row in ledger.rows if now[row["row"]] == folder]
        own.sort(key=lambda row: order.get(row["row"], len(order)))
        path = Path(results) / folder / NAME
        unproven = {row["row"]: ledger.unproven[row["row"]] for row in own if row["row"] in ledger.unproven}
        if own:
            write_changed(path, neat(pack(own, unproven)) + "\n")
        else:
            path.unlink(missing_ok=True)
    ledger.places |= {row["row"]: now[row["row"]] for row in ledger.rows}


def write_changed(path: Path, text: str) -> bool:
    """Write a file unless it has these very bytes; whether it was written."""
    if path.exists() and path.read_bytes() == text.encode():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    return True


def pack(rows: Sequence[Row], unproven: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Rows as a file holds them: the content of equal configs and runs once."""
    content: dict[str, Any] = {table: {} for table in ("configs", "data", "selections", "places", "runs")}
    packed = []
    for row in rows:
        shared = {key: _put(content[table], row[key]) for key, table in TABLES.items()}
        runs = [_run(content, run, shared) for run in row["runs"]]
        packed.append({key: row[key] for key in ROW if key in row and key not in {*TABLES, "command", "commit"}})
        packed[-1]["runs"] = runs
    kept = {"unproven": {name: list(reasons) for name, reasons in unproven.items()}} if unproven else {}
    return {key: table for key, table in content.items() if table} | {"rows": packed} | kept


def unpack(content: Mapping[str, Any]) -> tuple[list[Row], dict[str, list[str]]]:
    """The rows that were packed, and what is unproven about them."""
    return [_unpacked(row, content) for row in content["rows"]], dict(content.get("unproven", {}))


def _put(table: dict[str, Any], item: Any) -> str | None:
    """The key of an item in a table; it is added where the table has no equal one."""
    if item is None:
        return None
    key = digest(canonical(item))[:10]
    table[key] = item
    return key


def _run(content: dict[str, Any], run: Mapping[str, Any], shared: Mapping[str, str | None]) -> str:
    """The key of a run without its value, which is the row's."""
    kept = {key: run[key] for key in RUN if key in run and key not in {*PLACE, "value", "config_hash"}}
    kept |= {**shared, "place": _put(content["places"], {key: run[key] for key in PLACE})}
    name, count = run["config_hash"], 1
    # The same config may have run twice, for rows that were recorded at different times.
    while content["runs"].setdefault(key := name if count == 1 else f"{name}-{count}", kept) != kept:
        count += 1
    return str(key)


def _unpacked(packed: Mapping[str, Any], content: Mapping[str, Any]) -> Row:
    stored = [content["runs"][key] | {"config_hash": key.partition("-")[0]} for key in packed["runs"]]
    runs = []
    for run, value in zip(stored, packed["values"], strict=True):
        whole = run | content["places"][run["place"]] | {"value": value}
        runs.append({key: whole[key] for key in RUN if key in whole})
    first = stored[0]
    row = dict(packed) | {key: content[table][first[key]] if first[key] else None for key, table in TABLES.items()}
    commits = dict.fromkeys(run["commit"] for run in stored)
    row |= {"command": first["command"], "commit": ", ".join(commits), "runs": runs}
    return {key: row[key] for key in ROW if key in row}


def neat(value: Any, indent: int = 0) -> str:
    """Strict JSON for people: what fits on a line of 120 columns stands on one."""
    short = json.dumps(strict(value), allow_nan=False, ensure_ascii=False)
    if len(short) + indent <= WIDTH or not isinstance(value, dict | list) or not value:
        return short
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {neat(item, indent + 2)}" for key, item in value.items()]
    else:
        parts = [neat(item, indent + 2) for item in value]
    first, last = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{first}\n" + ",\n".join(inner + part for part in parts) + f"\n{' ' * indent}{last}"
