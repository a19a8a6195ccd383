"""Rows of the ledger: made from finished runs, sealed against typing by hand."""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tasks.config.load import find
from tasks.errors import UserError, nearest
from tasks.ledger.entry import Entry
from tasks.ledger.metric import number
from tasks.ledger.store import Ledger, Row, load, save
from tasks.runs.files import canonical, digest, file_digest, read_json
from tasks.runs.records import config_of, environment_of, result_of

# A row with `proof: 1` has what an older one may lack: digests of its bar and of its choice, recorded by its runs.
PROOF = 1


def record(
    row_id: str, runs: Sequence[str | PathLike[str]], bars: Mapping[str, Entry], results: str | PathLike[str]
) -> Row:
    """Write the row of finished run folders, one per seed, into the ledger of its experiment, in place of an older one.

    Each config.json has `seed`; each environment.json the digest of the row's entry, which was there when the run began;
    each result.json the entry's metric and `data` with name, sha256 and substitute. UserError where the runs are not those
    of the entry, differ in more than their seed, or began before their bar stood as it does, and where the row that a bar
    names is not in the ledger yet.

    Args:
        row_id: a row of `bars`.
        runs: folders of finished runs, in any order of their seeds.
        bars: all entries of the results folder, by row.
        results: the results folder; only the ledger of the row's experiment is written.

    """
    ledger = load(results)
    row = make_row(row_id, runs, bars, ledger)
    for folder in runs:
        _check_recorded(Path(folder), bars[row_id])
    ledger.rows = [other for other in ledger.rows if other["row"] != row_id] + [row]
    ledger.unproven.pop(row_id, None)
    save(ledger, bars, results, [row_id])
    return row


def make_row(row_id: str, runs: Sequence[str | PathLike[str]], bars: Mapping[str, Entry], ledger: Ledger) -> Row:
    """The sealed row of finished run folders, written nowhere.

    Args:
        row_id: a row of `bars`.
        runs: folders of finished runs, one per seed of the entry, in any order.
        bars: all entries, by row.
        ledger: has the row that this one's bar is above, if there is one.

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
    return seal(_row(entry, read, _beside(entry, ledger)))


def run_digests(entry: Entry, bars: Mapping[str, Entry]) -> dict[str, str]:
    """The digests of all rows that the entry's runs serve, for `execute`: those of its experiment, overrides and seeds."""
    same = (entry.experiment, entry.overrides, entry.seeds)
    return {row: one.sha256 for row, one in bars.items() if (one.experiment, one.overrides, one.seeds) == same}


def seal(row: Row) -> Row:
    """The row with the SHA-256 of everything in it, the digests of its runs' result.json included."""
    return row | {"seal": _seal(row)}


def sealed(row: Row) -> bool:
    """Whether the row is as a run wrote it."""
    return row.get("seal") == _seal(row)


def held_to(entry: Entry) -> dict[str, Any] | None:
    """An entry's bar as a row of the ledger keeps it: a dict without what is None; None without a bar."""
    return None if entry.bar is None else {key: v for key, v in asdict(entry.bar).items() if v is not None}


def _seal(row: Row) -> str:
    return digest(canonical({key: value for key, value in row.items() if key != "seal"}))


def _read(folder: Path, entry: Entry) -> dict[str, Any]:
    """What a row keeps of one run, and its configuration without the seed."""
    if not (folder / "result.json").exists():
        raise UserError(f"{entry.row} needs finished runs; {folder} has no result.json; finish it first")
    config, surroundings, result = config_of(folder), environment_of(folder), read_json(folder / "result.json")
    seed = config.pop("seed", None)
    if seed not in entry.seeds:
        raise UserError(
            f"{entry.row} has the seeds {list(entry.seeds)}; {folder} has {seed!r}; give the runs of the entry"
        )
    _check_config(folder, config, entry)
    value, data = _value(folder, result, entry), _data(folder, result)
    result_of(folder)  # what was written by hand is told by what it lacks first
    return {
        "seed": seed,
        "value": value,
        "config_hash": folder.name.rpartition("-")[2],
        "result_sha256": file_digest(folder / "result.json"),
        "command": shlex.join(surroundings["command"]),
        "commit": surroundings["commit"],
        "dirty": surroundings["dirty"],
        "resumed": surroundings["resumed"],
        "device": surroundings["device"],
        "machine": surroundings["machine"],
        "versions": surroundings["versions"],
        "bars": surroundings.get("bars", {}),
        "data": data,
        "config": config,
        "selection": result.get("selection"),
    }


def _beside(entry: Entry, ledger: Ledger) -> float | None:
    """The mean of the row that the entry's bar is above."""
    if entry.above is None:
        return None
    row = ledger.row(entry.above)
    if row is None:
        raise UserError(f"{entry.row} is held above {entry.above}; the ledger has no such row yet; run that row first")
    return float(row["mean"])


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
    published = None if entry.published is None else asdict(entry.published)
    return {
        "row": entry.row,
        "experiment": entry.experiment,
        "overrides": list(entry.overrides),
        "metric": entry.metric,
        "seeds": list(entry.seeds),
        "values": values,
        "mean": mean,
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "bar": held_to(entry),
        "verdict": entry.verdict(mean, beside),
        **({} if beside is None else {"beside": beside}),
        "published": None if substitute else published,
        "published_dropped": f"measured on a substitute: {substitute}" if substitute and published else None,
        **shared,
        "command": runs[0]["command"],
        "commit": ", ".join(dict.fromkeys(run["commit"] for run in runs)),
        "runs": [{key: value for key, value in run.items() if key not in shared} for run in runs],
        "proof": PROOF,
        "entry_sha256": entry.sha256,
    }


def _check_recorded(folder: Path, entry: Entry) -> None:
    """A run knows the digest of its bar from its start: no bar is written, or changed, after a result was seen."""
    found = environment_of(folder).get("bars", {}).get(entry.row)
    if found != entry.sha256:
        rule = f"{entry.row} needs runs that began with its bar as it stands"
        got = "began without it" if found is None else "began with another"
        raise UserError(f"{rule}; {folder} {got}; remove that folder, or give another --root, and run the row again")


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
        try:
            found = find(config, key)
        except KeyError:
            continue
        if not isinstance(found, dict) and isinstance(wanted, dict) and found != wanted["value"]:
            rule = f"{entry.row} has the override {override}"
            raise UserError(f"{rule}; {folder} ran with {key}={found!r}; give the runs of the entry")


def _value(folder: Path, result: dict[str, Any], entry: Entry) -> float:
    try:
        return number(result, entry.metric)
    except UserError as error:
        raise UserError(f"{entry.row}: {error} ({folder}/result.json)") from error


def _data(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    data, keys = result.get("data"), ("name", "sha256", "substitute")
    if not isinstance(data, dict) or not all(key in data for key in keys):
        raise UserError(f"a result says which data it is about; {folder}/result.json lacks data.{{{','.join(keys)}}}")
    return {key: data[key] for key in keys}
