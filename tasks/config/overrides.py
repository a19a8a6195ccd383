"""Overrides: where each is placed in a config, and whether there is a place for it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from tasks.config.build import TARGET, options_of, resolve, target_of
from tasks.config.defaults import hint_at
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
        return [f"data.name={quoted(plain(value))}"]
    if key == "target" and (":" in value or "/" in value):
        return ["target=custom", f"target.constructor={quoted(plain(value))}"]
    return [item]


def quoted(text: str) -> str:
    """A text as the grammar of overrides has it, whatever stands in it: paths have quotes, braces, commas and spaces."""
    inside = re.sub(r"(\\*)(\$\{)", r"\1\1\\\2", text)
    return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), inside) + "'"


def plain(value: str) -> str:
    """The text that a value is, its own quotes taken off."""
    whole = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return str(_parsed(value)[1]) if whole and _parsed(value)[0] == "text" else value


def written(key: str, value: str, hint: Any) -> str:
    """A value as the grammar of overrides has it: what it has no word for is text, as paths and titles are.

    UserError for several values, for they make several runs, and for a bracket that is not closed.

    Args:
        key: of the option.
        value: as it was typed.
        hint: of the option; None: nothing says what it takes.

    """
    kind, _ = _parsed(value)
    takes = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if kind == "text" or (kind == "none" and (hint is None or NoneType in takes or str not in takes)):
        return value
    if str in takes or (kind == "unreadable" and value.lstrip()[:1] not in ("[", "{")):
        return quoted(value)
    if kind == "several":
        raise UserError(f"{key} has one value in a run; got {value}; pass -m for a run of each, or quote a text")
    if kind == "unreadable":
        rule = "the config can't be composed: a value must be readable"
        raise UserError(f"{rule}; got {key}={value}; close its brackets and quotes")
    return value


def readable(item: str) -> str:
    """An override that the grammar reads, where it did not: as `written` has it of an option that nothing is known of."""
    key, equals, value = item.partition("=")
    return f"{key}={written(key, value, None)}" if equals and _parsed(value)[0] == "unreadable" else item


def _parsed(value: str) -> tuple[str, Any]:
    """What the grammar of overrides makes of a value: its kind, and the value where it is one."""
    try:
        found = OverridesParser.create().parse_override(f"key={value}")
        if found.is_sweep_override():
            return "several", None
        made = found.value()
    except HydraException:
        return "unreadable", None
    return ("none" if made is None else "text" if isinstance(made, str) else "value"), made


def placed(item: str, folders: Sequence[Path]) -> str:
    """``stream=permuted`` as hydra writes it: ``stream@run.stream=permuted``."""
    key, _, value = item.partition("=")
    group, _, place = key.partition("@")
    if not is_choice(item):
        return item
    known = options(group, folders)
    if value not in known:
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
    return item.partition("=")[0].rpartition(".")[2] in (TARGET, "constructor")


def full(item: str, config: Mapping[str, Any]) -> str:
    """An override with its whole key. UserError for a key that no option has."""
    key, _, value = item.partition("=")
    for prefix in PREFIXES:
        if _takes(config, f"{prefix}{key}", value):
            return f"{prefix}{key}={written(key, value, hint_at(config, prefix + key))}"
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
