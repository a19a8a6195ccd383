"""What a config leaves out is filled in from the signatures of what it names; what it sets has the kind of value there."""

import dataclasses
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

from omegaconf import OmegaConf

from tasks.config.build import TARGET, default_of, has_default, options_of, target_of
from tasks.config.common import Common
from tasks.config.fields import hints_of
from tasks.config.files import CONFIGS
from tasks.errors import UserError

# Their options are those of the installed version, which the environment of a run records.
FOREIGN = ("torch.", "neuromod.")


def completed(config: Mapping[str, Any], family: str | None) -> dict[str, Any]:
    """The config with the defaults of its family's fields, and of the functions that they name."""
    run = dict(config.get("run") or {})
    if family is not None:
        run = {TARGET: family} | {key: value for key, value in run.items() if key != TARGET}
    return {**config, "run": _fields(target_of(run, "run"), run)}


def _fields(cls: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls):
        return dict(given)
    found = {TARGET: given[TARGET]} if TARGET in given else {}
    for field in (f for f in dataclasses.fields(cls) if f.init):
        if field.name not in given and not has_default(field):
            continue
        value = given[field.name] if field.name in given else default_of(field)
        hint = get_type_hints(cls)[field.name]
        if dataclasses.is_dataclass(hint):
            value = _fields(hint, dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value)  # type: ignore[arg-type]
        found[field.name] = _specs(value, f"run.{field.name}")
    return found | {key: value for key, value in given.items() if key not in found}


def _specs(value: Any, where: str) -> Any:
    """A value whose specs, one or several by name, have the defaults of what they call; those of others' code stay theirs."""
    if not isinstance(value, Mapping):
        return list(value) if isinstance(value, tuple) else value
    if TARGET not in value:
        return {
            key: _specs(v, f"{where}.{key}") if isinstance(v, Mapping) and TARGET in v else v
            for key, v in value.items()
        }
    if str(value[TARGET]).startswith(FOREIGN):
        return dict(value)
    known = options_of(target_of(value, where)) or {}
    plain = {
        n: p.default for n, p in known.items() if isinstance(p.default, NoneType | bool | int | float | str | tuple)
    }
    filled = {n: list(v) if isinstance(v, tuple) else v for n, v in plain.items()}
    return {TARGET: value[TARGET], **filled, **{k: v for k, v in value.items() if k != TARGET}}


def check_numbers(base: Mapping[str, Any], composed: Mapping[str, Any], prefix: str = "", owner: Any = None) -> None:
    """Where the configs have a number (or a yes or no), an override is one too, or null where its ``owner`` understands it.

    Args:
        base: the config before the overrides.
        composed: the config with them.
        prefix: the dotted path of both in the whole config, with a dot at its end; '' for the whole.
        owner: what takes these options; None: nothing says.

    """
    for key, old in base.items():
        new = composed.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            check_numbers(old, new, f"{prefix}{key}.", _owner(old, owner, key))
        for kind, name in ((bool, "true or false"), (int, "a whole number"), (float, "a number")):
            if isinstance(old, kind):
                fits = isinstance(new, int | float if kind is float else kind) and isinstance(new, bool) == (
                    kind is bool
                )
                if not (fits or (new is None and _optional(owner, f"{prefix}{key}"))):
                    raise UserError(f"{prefix}{key} must be {name}; got {new!r}; the default is {old!r}")
                break


def _owner(spec: Mapping[str, Any], parent: Any, key: str) -> Any:
    """What takes the options of a part of a config: what it calls, or the dataclass of a field; None: nothing says."""
    if TARGET in spec:
        return target_of(spec, key)
    hint = hints_of(parent).get(key) if parent is not None else None
    return hint if dataclasses.is_dataclass(hint) else None


def hint_at(config: Mapping[str, Any], key: str) -> Any:
    """The hint of an option by its whole dotted key, ranges too; None where nothing says what it takes."""
    *path, last = key.split(".")
    node: Any = config
    owner: Any = Common
    for part in path:
        node = node.get(part) if isinstance(node, Mapping) else None
        owner = _owner(node, owner, part) if isinstance(node, Mapping) else None
    return hints_of(owner).get(last) if owner is not None else None


def _optional(owner: Any, path: str) -> bool:
    """Whether null is understood there: by the owner, or because it is the default of what all families share."""
    if owner is None:
        return OmegaConf.select(OmegaConf.load(CONFIGS / "train.yaml"), path, default=0) is None
    key = path.rpartition(".")[2]
    hint, known = hints_of(owner).get(key), options_of(owner) or {}
    if hint is None:
        return key not in known or known[key].default is None
    return NoneType in get_args(hint)
