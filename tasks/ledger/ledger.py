"""The ledger: every result as a row that finished runs wrote, sealed against typing by hand."""

import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from tasks.errors import UserError, nearest
from tasks.ledger.bars import Entry
from tasks.runs.files import canonical, digest, file_digest, read_json, write_json

Row = dict[str, Any]
Class = Literal["seal", "changed", "unknown", "missed", "not run yet"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row. `fails` says whether a check that finds it fails."""

    row: str
    kind: Class
    text: str
    fails: bool = True

    def __str__(self) -> str:
        return f"{self.row}: {self.text}"


def load_ledger(path: str | PathLike[str]) -> list[Row]:
    """The rows of a ledger, none where there is no file yet."""
    if not Path(path).exists():
        return []
    try:
        rows = read_json(path)
    except ValueError as error:
        raise UserError(f"{path} must be JSON; got {error}; restore it from git") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("row"), str) for row in rows):
        raise UserError(f"{path} must be a list of rows with an id each; got something else; restore it from git")
    return rows


def record(
    row_id: str,
    runs: Sequence[str | PathLike[str]],
    bars: Mapping[str, Entry],
    ledger_path: str | PathLike[str],
) -> Row:
    """Write the row of finished run folders, one a seed, into the ledger in place of an older one.

    Each config.json has `seed`; each result.json has the entry's metric and `data` with name, sha256 and substitute.
    UserError where the runs are not those of the entry, or differ in more than their seed, and where the row that a bar
    names is not in the ledger yet.
    """
    if row_id not in bars:
        raise UserError(
            f"a row stands in the bars before it is run; {row_id!r} does not; nearest: {nearest(row_id, bars)}"
        )
    entry = bars[row_id]
    read = sorted((_read(Path(folder), entry) for folder in runs), key=lambda run: entry.seeds.index(run["seed"]))
    found = [run["seed"] for run in read]
    if found != list(entry.seeds):
        raise UserError(f"{row_id} needs one run of each seed {list(entry.seeds)}; got {found}; run the others")
    present = load_ledger(ledger_path)
    row = seal(_row(entry, read, _beside(entry, present)))
    kept = [other for other in present if other["row"] != row_id]
    places = {known: place for place, known in enumerate(bars)}
    rows = sorted([*kept, row], key=lambda one: places.get(one["row"], len(places)))
    write_json(ledger_path, rows)
    return row


def check(
    ledger: Sequence[Row], bars: Mapping[str, Entry], *, missed: bool = False, strict: bool = False
) -> list[Problem]:
    """What is wrong with the ledger; with `missed`, missed bars too; with `strict`, a row not run yet fails as well."""
    problems = []
    for row in ledger:
        name = row["row"]
        if not sealed(row):
            problems.append(Problem(name, "seal", "no run wrote this row as it stands; run it again"))
        elif name not in bars:
            problems.append(Problem(name, "unknown", f"the bars have no such row; nearest: {nearest(name, bars)}"))
        elif row.get("entry_sha256") != bars[name].sha256:
            problems.append(Problem(name, "changed", "its entry in the bars changed after its run; run it again"))
        elif bars[name].above and row["beside"] != _mean_of(str(bars[name].above), ledger):
            problems.append(Problem(name, "changed", f"the row {bars[name].above} changed after its run; run it again"))
        elif missed and row["verdict"] == "missed":
            problems.append(Problem(name, "missed", f"got {row['mean']:.4g}, the bar is {bars[name].bar}"))
    names = [row["row"] for row in ledger]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(Problem(name, "seal", "no run writes a row twice; remove both and run it again"))
    absent = [Problem(name, "not run yet", "not run yet", strict) for name in bars if name not in names]
    return problems + absent


def seal(row: Row) -> Row:
    """The row with the SHA-256 of everything in it, the digests of its runs' result.json included."""
    return row | {"seal": _seal(row)}


def sealed(row: Row) -> bool:
    """Whether the row is as a run wrote it."""
    return row.get("seal") == _seal(row)


def _seal(row: Row) -> str:
    return digest(canonical({key: value for key, value in row.items() if key != "seal"}))


def _read(folder: Path, entry: Entry) -> dict[str, Any]:
    """What a row keeps of one run, and its configuration without the seed."""
    if not (folder / "result.json").exists():
        raise UserError(f"{entry.row} needs finished runs; {folder} has no result.json; finish it first")
    config, surroundings, result = (read_json(folder / f"{name}.json") for name in ("config", "environment", "result"))
    seed = config.pop("seed", None)
    if seed not in entry.seeds:
        raise UserError(
            f"{entry.row} has the seeds {list(entry.seeds)}; {folder} has {seed!r}; give the runs of the entry"
        )
    _check_config(folder, config, entry)
    return {
        "seed": seed,
        "value": _value(folder, result, entry),
        "config_hash": folder.name.rpartition("-")[2],
        "result_sha256": file_digest(folder / "result.json"),
        "command": shlex.join(surroundings["command"]),
        "commit": surroundings["commit"],
        "dirty": surroundings["dirty"],
        "resumed": surroundings["resumed"],
        "device": surroundings["device"],
        "machine": surroundings["machine"],
        "versions": surroundings["versions"],
        "data": _data(folder, result),
        "config": config,
        "selection": result.get("selection"),
    }


def _beside(entry: Entry, ledger: Sequence[Row]) -> float | None:
    """The mean of the row that the entry's bar is above."""
    if entry.above is None:
        return None
    mean = _mean_of(entry.above, ledger)
    if mean is None:
        raise UserError(f"{entry.row} is held above {entry.above}; the ledger has no such row yet; run that row first")
    return mean


def _mean_of(row_id: str, ledger: Sequence[Row]) -> float | None:
    return next((float(row["mean"]) for row in ledger if row["row"] == row_id), None)


def _row(entry: Entry, runs: list[dict[str, Any]], beside: float | None) -> Row:
    shared = {}
    for key in ("config", "data", "selection"):
        different = {canonical(run[key]) for run in runs}
        if len(different) > 1:
            raise UserError(
                f"{entry.row}: runs of one row differ in their seed only; theirs differ in {key}; run it anew"
            )
        shared[key] = runs[0][key]
    values = [run["value"] for run in runs]
    mean = statistics.fmean(values)
    substitute = shared["data"]["substitute"]
    held_to = None if entry.bar is None else {key: v for key, v in asdict(entry.bar).items() if v is not None}
    published = None
    if entry.published is not None:
        published = {"value": entry.published.value, "source": entry.published.source, "note": entry.published.note}
    return {
        "row": entry.row,
        "experiment": entry.experiment,
        "overrides": list(entry.overrides),
        "metric": entry.metric,
        "seeds": list(entry.seeds),
        "values": values,
        "mean": mean,
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "bar": held_to,
        "verdict": entry.verdict(mean, beside),
        **({} if beside is None else {"beside": beside}),
        "published": None if substitute else published,
        "published_dropped": f"measured on a substitute: {substitute}" if substitute and published else None,
        **shared,
        "command": runs[0]["command"],
        "commit": ", ".join(dict.fromkeys(run["commit"] for run in runs)),
        "runs": [{key: value for key, value in run.items() if key not in shared} for run in runs],
        "entry_sha256": entry.sha256,
    }


def _check_config(folder: Path, config: dict[str, Any], entry: Entry) -> None:
    """The overrides that name one value of the resolved configuration must have set it.

    An override that chooses a file of configuration (kind=topk) leaves no value of that name, so it can't be checked.
    """
    named = config.get("experiment", entry.experiment)
    if isinstance(named, str) and named != entry.experiment:
        raise UserError(f"{entry.row} is the experiment {entry.experiment}; {folder} is {named}; give the right runs")
    for override in entry.overrides:
        key, _, text = override.lstrip("+").partition("=")
        wanted = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
        present, found = _dig(config, key)
        if present and not isinstance(found, dict) and isinstance(wanted, dict) and found != wanted["value"]:
            rule = f"{entry.row} has the override {override}"
            raise UserError(f"{rule}; {folder} ran with {key}={found!r}; give the runs of the entry")


def _value(folder: Path, result: dict[str, Any], entry: Entry) -> float:
    present, value = _dig(result, entry.metric)
    if not present or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        got = f"{value!r}" if present else f"only {', '.join(result)}"
        raise UserError(f"{entry.row}: {entry.metric} must be a number in {folder}/result.json; got {got}; correct it")
    return float(value)


def _data(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    data, keys = result.get("data"), ("name", "sha256", "substitute")
    if not isinstance(data, dict) or not all(key in data for key in keys):
        raise UserError(f"a result says which data it is about; {folder}/result.json lacks data.{{{','.join(keys)}}}")
    return {key: data[key] for key in keys}


def _dig(tree: Any, dotted: str) -> tuple[bool, Any]:
    """Whether a dotted key leads anywhere in nested dicts and lists, and where to."""
    for part in dotted.split("."):
        if isinstance(tree, dict) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and part.lstrip("-").isdigit() and -len(tree) <= int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return False, None
    return True, tree
