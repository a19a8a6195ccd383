"""From the names in a config to what they name: dotted paths resolved, options checked against signatures, in one place.

A ``_target_`` comes from the command line, from ``configs/`` or from bars.yaml, never from a run folder, a ledger or a store.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, get_type_hints

import torch

from neuromod import RefusedError
from tasks.errors import UserError, nearest

TARGET = "_target_"


def resolve(path: str, where: str) -> Any:
    """What a dotted path names, ``package.module.thing`` or ``package.module:thing``. UserError where it names nothing."""
    first, *rest = path.replace(":", ".").split(".")
    name, found = first, _imported(first, path, where)
    for part in rest:
        # What a package itself calls by the name comes before a file of that name.
        if not hasattr(found, part) and isinstance(found, ModuleType):
            _imported(f"{name}.{part}", path, where, found)
        if not hasattr(found, part):
            raise UserError(f"{where}: {name} has no {part!r}; nearest: {nearest(part, _public(found))}")
        name, found = f"{name}.{part}", getattr(found, part)
    return found


def _imported(name: str, path: str, where: str, parent: Any = None) -> Any:
    rule = f"{where} must be the dotted path of something to import"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that exists and lacks something of its own is another mistake than one that does not exist.
        if error.name != name:
            raise UserError(f"{where}={path} can't be imported: {error}; install it or correct the path") from error
        if parent is None:
            raise UserError(f"{rule}; got {path!r}; write package.module.name") from error
        near = nearest(name.rpartition(".")[2], _public(parent))
        raise UserError(
            f"{where}: {name.rpartition('.')[0]} has no {name.rpartition('.')[2]!r}; nearest: {near}"
        ) from error
    except (ImportError, SyntaxError, ValueError, TypeError) as error:
        raise UserError(f"{rule}; got {path!r}: {error}; correct it") from error


def _public(found: Any) -> list[str]:
    return [key for key in getattr(found, "__dict__", {}) if not key.startswith("_")]


def target_of(spec: Mapping[str, Any], where: str) -> Callable[..., Any]:
    """The class or function that a spec ``{_target_: path, ...}`` names; of a module its ``measure``."""
    path = spec.get(TARGET)
    if not isinstance(path, str):
        raise UserError(
            f"{where} needs {TARGET}, a dotted path; got {path!r}; write {where}: {{{TARGET}: package.module.name}}"
        )
    found = resolve(path, f"{where}.{TARGET}")
    if isinstance(found, ModuleType):
        found = getattr(found, "measure", None)
    if not callable(found):
        raise UserError(f"{where}.{TARGET} must name a class or a function; got {path!r}; correct it")
    made: Callable[..., Any] = found
    return made


def options_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """The options that a class or function takes by name; None where it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def call(spec: Mapping[str, Any], where: str, *args: Any, **supplied: Any) -> Any:
    """Call what a spec names, with ``args`` and ``supplied`` from the code and the rest of the spec as its options.

    UserError for an option that it does not take, that the code supplies, or that it refuses.

    Args:
        spec: ``{_target_: dotted path, options}``.
        where: the place of ``spec`` in the config, for the words of an error.
        args: positional arguments.
        supplied: arguments by name that no config sets.

    """
    function = target_of(spec, where)
    options = {key: value for key, value in spec.items() if key != TARGET}
    known = options_of(function)
    if known is not None:
        own = list(known)[len(args) :]
        check(where, options, [name for name in own if name not in supplied])
    try:
        return function(*args, **supplied, **options)
    except (UserError, RefusedError, FloatingPointError):
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {spec[TARGET]} refuses its options; {error}; correct them") from error


def check(where: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an option that is not known, with the nearest that are.

    Args:
        where: the place in the config, for the words of an error.
        options: what is set there.
        known: names that may be.

    """
    names = list(known)
    for key in options:
        if key not in names:
            raise UserError(f"{where} has no option {key!r}; nearest: {nearest(str(key), names)}")


def experiment(spec: Mapping[str, Any]) -> Any:
    """The experiment that ``run`` of a config describes: its family's dataclass, its fields filled."""
    family = target_of(spec, "run")
    if not dataclasses.is_dataclass(family):
        raise UserError(
            f"run.{TARGET} must name a dataclass; got {spec[TARGET]!r}; see CONTRIBUTING, a family of experiments"
        )
    return _filled(family, {key: value for key, value in spec.items() if key != TARGET}, "run")


def _filled(cls: Any, options: Mapping[str, Any], where: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    check(where, options, fields)
    hints = get_type_hints(cls)
    values = {}
    for key, value in options.items():
        inner = hints[key]
        nested = dataclasses.is_dataclass(inner) and isinstance(value, Mapping)
        values[key] = _filled(inner, value, f"{where}.{key}") if nested else value
    missing = [n for n, f in fields.items() if n not in values and not has_default(f)]
    if missing:
        raise UserError(f"{where} needs {missing[0]}; got {', '.join(options) or 'nothing'}; set {where}.{missing[0]}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError | RefusedError):
            raise
        raise UserError(f"{where} refuses its options; {error}; correct them") from error


def has_default(field: "dataclasses.Field[Any]") -> bool:
    """Whether a field may be left out."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """What a field is where nothing is said."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def one_of(where: str, value: object, known: Iterable[object]) -> None:
    """Refuse a word that is not one of those known, with the nearest.

    Args:
        where: the place in the config, for the words of an error.
        value: what is set there.
        known: what may be.

    """
    names = list(known)
    # True is 1 and no number that was meant.
    if isinstance(value, bool) or value not in names:
        words = [str(name) for name in names]
        raise UserError(
            f"{where} must be one of {', '.join(words)}; got {value!r}; nearest: {nearest(str(value), words)}"
        )


def at_least(least: float, **numbers: float | None) -> None:
    """Refuse numbers below ``least``; None passes."""
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < least):
            raise UserError(f"{name} must be a number of at least {least:g}; got {value!r}; correct it")


def device_of(name: str) -> torch.device:
    """The device of a name: ``auto`` is a GPU where torch sees one. UserError for ``cuda`` without one."""
    one_of("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda needs a GPU that torch sees; got none; pass device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
