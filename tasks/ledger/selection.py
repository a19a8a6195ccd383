"""The hyper-parameters that were chosen for an experiment, as its rows quote them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.config.load import find
from tasks.runs.files import read_json


def file(results: Path, experiment: str) -> Path:
    """Where the choice of an experiment is written."""
    return results / "selection" / f"{experiment.replace('/', '-')}.json"


def chosen(config: Mapping[str, Any], results: Path) -> dict[str, Any] | None:
    """The choice that was made for an experiment, and whether its config follows it; None where none was made."""
    path = file(results, config["experiment"])
    if not path.exists():
        return None
    made = read_json(path)
    follows = all(_says(config, key, value) for key, value in made["choice"].items())
    kept = {key: made[key] for key in ("choice", "metric", "seeds", "held_out", "commit")}
    return kept | {"follows": follows}


def _says(config: Mapping[str, Any], key: str, value: Any) -> bool:
    try:
        return bool(find(config, key) == value)
    except KeyError:  # another optimizer, say, without the option that was chosen
        return False


def dig(tree: Any, dotted: str) -> Any:
    """The value behind a dotted key."""
    for key in dotted.split("."):
        tree = tree[key]
    return tree
