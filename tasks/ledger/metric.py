"""A number of a result by its path: what rows report and what choices are made by."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.errors import UserError, nearest


def number(result: Mapping[str, Any], path: str) -> float:
    """The finite number behind a dotted path of a run's result; parts of a list by index, also from its end (``-1``).

    Looked for in this order: the headline (``path`` is what ``result["metric"]`` names: then ``result["value"]``), under
    ``costs``, under ``measures``, and from the top. UserError for a path that leads to no finite number, with the nearest.
    """
    if result.get("metric") == path and "value" in result:
        return _finite(result["value"], path, result)
    for tree in (result.get("costs"), result.get("measures"), result):
        present, found = dig(tree, path)
        if present:
            return _finite(found, path, result)
    known = list(paths(result))
    raise UserError(f"a metric is the path of a number in a result; got {path!r}; nearest: {nearest(path, known)}")


def paths(result: Mapping[str, Any]) -> Iterator[str]:
    """The paths that `number` takes, without those inside a list but for its last place."""
    if "value" in result and isinstance(result.get("metric"), str):
        yield result["metric"]
    for tree in (result.get("costs"), result.get("measures"), result):
        yield from _leaves(tree, "")


def dig(tree: Any, dotted: str) -> tuple[bool, Any]:
    """Whether a dotted key leads anywhere in nested dicts and lists, and where to."""
    for part in dotted.split("."):
        if isinstance(tree, dict) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and part.lstrip("-").isdigit() and -len(tree) <= int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return False, None
    return True, tree


def _leaves(tree: Any, start: str) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, item in tree.items():
            yield from _leaves(item, f"{start}.{key}" if start else str(key))
    elif isinstance(tree, list) and tree:
        yield from _leaves(tree[-1], f"{start}.-1")
    elif start and isinstance(tree, int | float) and not isinstance(tree, bool):
        yield start


def _finite(value: Any, path: str, result: Mapping[str, Any]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        inside = f"; nearest: {nearest(path, paths(result))}" if isinstance(value, dict | list) else "; mend the run"
        got = "more than one value" if isinstance(value, dict | list) else repr(value)
        raise UserError(f"{path} must be a finite number in a result; got {got}{inside}")
    return float(value)
