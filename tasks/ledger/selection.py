"""The hyper-parameters that were chosen for an experiment, as its rows quote them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.config.load import find
from tasks.runs.files import file_digest, read_json

NAME = "selection.json"
KEPT = ("choice", "metric", "seeds", "held_out", "commit")


def file(results: Path, experiment: str) -> Path:
    """Where the choice of an experiment is written."""
    return results / experiment / NAME


def choice_of(config: Mapping[str, Any], results: Path) -> dict[str, Any] | None:
    """The choice that was made for an experiment, and whether its config follows it; None where none was made.

    Its `sha256` is that of the file, so that a choice that is edited after a run is found.
    """
    path = file(results, config["experiment"])
    if not path.exists():
        return None
    made = read_json(path)
    return {key: made[key] for key in KEPT} | {"follows": follows(config, made["choice"]), "sha256": file_digest(path)}


def follows(config: Mapping[str, Any], choice: Mapping[str, Any]) -> bool:
    """Whether a config has every value of a choice; another optimizer, without the option that was chosen, has not."""
    return all(_says(config, key, value) for key, value in choice.items())


def _says(config: Mapping[str, Any], key: str, value: Any) -> bool:
    try:
        return bool(find(config, key) == value)
    except KeyError:
        return False


def edges(points: Sequence[Mapping[str, Any]], choice: Mapping[str, Any]) -> dict[str, bool]:
    """Per key of a grid whether the choice is its least or greatest number: then a better one may lie outside.

    ``points`` are the grid's, each a value per key. False for what has no order (``schedule``), and where the grid had one
    value and nothing was chosen.
    """
    found = {}
    for key, value in choice.items():
        numbers = [float(point[key]) for point in points if _is_number(point[key])]
        ends = (min(numbers), max(numbers)) if len(set(numbers)) > 1 else ()
        found[key] = _is_number(value) and value in ends
    return found


def same(choice: Mapping[str, Any], quoted: Mapping[str, Any]) -> bool:
    """Whether two choices are one, where a key may have been moved since: ``run.optimizer.lr`` is ``optimizer.lr``."""

    def moved(key: str, value: Any) -> bool:
        return any(f".{other}".endswith(f".{key}") and value == theirs for other, theirs in choice.items())

    return len(choice) == len(quoted) and all(moved(key, value) for key, value in quoted.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
