"""A finished run, read from its folder and checked before anything is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.runs.records import config_of, environment_of, metrics_of, read_lines, result_of

REQUIRED = ("title", "metric", "value", "better", "role", "trained", "costs", "measures", "seconds", "data")
ROLES = ("modulator", "bracket")
KINDS = {"metric": str, "better": str, "trained": str, "costs": dict | None, "measures": dict, "data": dict}


@dataclass(frozen=True)
class Run:
    """What one run folder says.

    Args:
        name: of the folder.
        config: resolved, defaults too.
        environment: command, commit, versions, machine.
        metrics: one dict per logged line.
        result: of the finished run.

    """

    name: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The run's title, which is the name of its row in the table."""
        return str(self.result["title"])

    @property
    def value(self) -> float:
        """The run's headline number."""
        return float(self.result["value"])

    def measure(self, name: str) -> Mapping[str, Any]:
        """What a measure found; empty where it was not taken."""
        return self.result["measures"].get(name) or {}

    @property
    def seeds(self) -> dict[str, Any]:
        """Every setting of the config whose name speaks of a seed, by its dotted path."""
        return dict(_seeds(self.config, ""))


def _seeds(node: Any, path: str) -> list[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return []
    found = [(f"{path}{key}", value) for key, value in node.items() if "seed" in key and not isinstance(value, Mapping)]
    return found + [pair for key, value in node.items() for pair in _seeds(value, f"{path}{key}.")]


def _there(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise UserError(f"a report reads finished runs; {folder.name!r} has no {name}; finish the run or leave it out")


def load(folder: Path) -> Run:
    """Read one run folder; UserError names the folder, the file or the key that is missing or wrong."""
    if not folder.is_dir():
        raise UserError(f"a report reads folders of runs; {str(folder)!r} is none; correct the path")
    for name in ("config.json", "environment.json", "result.json", "metrics.jsonl"):
        _there(folder, name)
    config, environment, result = config_of(folder), environment_of(folder), result_of(folder)
    metrics_of(folder)  # as they were written; a finished run has no torn line, so that all are read
    path = folder / "metrics.jsonl"
    metrics = tuple(read_lines(path, [line for line in path.read_bytes().splitlines() if line.strip()]))
    if missing := [key for key in REQUIRED if key not in result]:
        raise UserError(f"result.json must say {', '.join(missing)}; {folder.name!r} does not; write the run again")
    wrong = [key for key, kind in KINDS.items() if not isinstance(result[key], kind)]
    wrong += (
        [name for name, found in (result["measures"] or {}).items() if not isinstance(found, dict)] if not wrong else []
    )
    if wrong:
        raise UserError(f"a result is as a run writes it; {folder.name!r} has another {wrong[0]}; run it again")
    if not isinstance(result["value"], int | float):
        raise UserError(f"a result's value is a finite number; {folder.name!r} has {result['value']!r}; run it again")
    if result["role"] not in ROLES:
        raise UserError(f"role must be one of {ROLES}; got {result['role']!r} in {folder.name!r}; mend its result.json")
    return Run(folder.name, config, environment, metrics, result)


def labels(runs: list[Run]) -> list[str]:
    """One name per run: its title; runs that share a title are told apart by seed, or else by folder."""
    titles = [str(run.result["title"]) for run in runs]
    named = []
    for run, title in zip(runs, titles, strict=True):
        twins = [other for other, t in zip(runs, titles, strict=True) if t == title]
        seeds = [other.config.get("seed") for other in twins]
        if len(twins) == 1:
            named.append(title)
        elif None not in seeds and len(set(map(str, seeds))) == len(twins):
            named.append(f"{title}, seed {run.config['seed']}")
        else:
            named.append(f"{title}, {run.name}")
    return named
