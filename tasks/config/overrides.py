"""Overrides: where each is placed in a config, and whether there is a place for it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.config.build import TARGET, options_of, resolve, target_of
from tasks.config.files import options
from tasks.errors import UserError, nearest

# Where a key is looked up, in this order: `steps` is `run.steps`, `regulariser.beta` is `run.learner.regulariser.beta`.
PREFIXES = ("", "run.", "run.learner.", "run.measures.")
# A group of configs, and the place that its choice takes.
PLACES = {
    "run": "run",
    "stream": "run.stream",
    "target": "run.target",
    "learner": "run.learner",
    "modulator": "run.learner.modulators",
    "optimizer": "run.optimizer",
    "measures": "run.measures",
}


def shorthand(item: str) -> list[str]:
    """An override as hydra has it: ``data=NAME`` and ``target=package.module:function`` written out."""
    key, equals, value = item.partition("=")
    if not equals:
        raise UserError(f"an override is key=value; got {item!r}; write {item}=VALUE")
    if key.startswith("~"):
        raise UserError(f"an option is set and not removed; got {item!r}; pass {key[1:]}=null")
    item = item.lstrip("+")
    key = key.lstrip("+")
    if key == "data":
        return ["data.name='" + value.replace("'", "\\'") + "'"]
    if key == "target" and ":" in value:
        return ["target=custom", f"target.constructor='{value}'"]
    return [item]


def placed(item: str, folders: Sequence[Path]) -> str:
    """``stream=permuted`` as hydra writes it: ``stream@run.stream=permuted``."""
    key, _, value = item.partition("=")
    group, _, place = key.partition("@")
    if not is_choice(item):
        return item
    known = options(group, folders)
    if value not in known and value != "null":
        raise UserError(f"{group} must be a known name; got {value!r}; nearest: {nearest(value, known)}")
    wanted = PLACES.get(group, group)
    if place and place not in (wanted, wanted.removeprefix("run."), wanted.removeprefix("run.learner.")):
        raise UserError(f"{group} is chosen for {wanted}; got {key}; write {group}={value}")
    return f"{group}={value}" if wanted == group else f"{group}@{wanted}={value}"


def is_choice(item: str) -> bool:
    """Whether an override chooses a file: a group's name that takes the name of one, and not a value of its own."""
    key, _, value = item.partition("=")
    group = key.partition("@")[0]
    return (group in PLACES or group == "experiment") and not value.lstrip().startswith("{")


def is_call(item: str) -> bool:
    """Whether an override says what is called."""
    return item.partition("=")[0].endswith(f".{TARGET}")


def full(item: str, config: Mapping[str, Any]) -> str:
    """An override with its whole key. UserError for a key that no option has."""
    key, _, value = item.partition("=")
    for prefix in PREFIXES:
        if _takes(config, f"{prefix}{key}", value):
            return f"{prefix}{key}={value}"
    known = [*dotted(config)]
    short = [name.removeprefix(p) for name in known for p in PREFIXES if name.startswith(p)]
    raise UserError(f"an option must exist; got {key!r}; nearest: {nearest(key, short)}")


def _takes(config: Mapping[str, Any], key: str, value: str) -> bool:
    """Whether there is a place for a key: an option that stands there, or one that what is called there takes."""
    *path, last = key.split(".")
    node: Any = config
    for place, part in enumerate(path):
        if isinstance(node, Mapping) and node.get(part) is None and part in node and place + 1 == len(path):
            return False
        if not isinstance(node, Mapping) or part not in node:
            return False
        parent, node = node, node[part]
        if part == "kwargs" and "constructor" in parent and place + 1 == len(path):
            return last in node or _constructor_takes(parent["constructor"], last)
    if not isinstance(node, Mapping):
        return False
    if last in node:
        return True
    if TARGET in node:
        known = options_of(target_of(node, ".".join(path)))
        return known is None or last in known
    # A mapping of named parts takes another part, whole: modulators.head={kind: ...}.
    return path[-1:] in (["modulators"], ["measures"], ["rates"]) and value.lstrip().startswith(("{", "["))


def _constructor_takes(constructor: str, name: str) -> bool:
    if name in ("shape", "outputs"):
        raise UserError(f"target.kwargs.{name} is given by the data; got it as an option too; leave it out")
    known = options_of(resolve(constructor, "target.constructor"))
    return known is None or name in known


def dotted(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a config, of its parts too."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
