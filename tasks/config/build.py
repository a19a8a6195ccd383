"""From the names in a config to what they name: dotted paths resolved, options checked against signatures, in one place.

A ``_target_`` comes from the command line, from ``configs/`` or from bars.yaml, never from a run folder, a ledger or a store.
"""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import torch

from tasks.config.fields import fit, fit_options, hints_of, one_of
from tasks.errors import FOREIGN, UserError, nearest, reason, told

TARGET = "_target_"


def resolve(path: str, where: str) -> Any:
    """What a dotted path names, ``package.module.thing`` or ``package.module:thing``. UserError where it names nothing."""
    if not isinstance(path, str):
        raise UserError(
            f"{where} must be the dotted path of something to import; got {path!r}; write package.module:name"
        )
    if "/" in path or path.partition(":")[0].endswith(".py"):
        file, _, name = path.rpartition(":") if ":" in path else (path, "", "name")
        stem = file.rpartition("/")[2].removesuffix(".py")
        rule = f"{where} must be the dotted path of something to import, and not of a file"
        raise UserError(f"{rule}; got {path!r}; write {stem}:{name}, with the folder of {stem}.py on PYTHONPATH")
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


def own(path: str, where: str) -> Callable[..., Any]:
    """A function of the user's own by its dotted path; what it raises when it is called is told in a line, with its place.

    UserError where the path names nothing, or nothing that can be called.
    """
    found = resolve(path, where)
    if not callable(found):
        raise UserError(f"{where} must name a function; got {path!r}, a {type(found).__name__}; correct it")

    @functools.wraps(found)
    def called(*args: Any, **options: Any) -> Any:
        with told(f"{where}: {path} must take what it is called with", "correct it"):
            return found(*args, **options)

    return called


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
    except FOREIGN as error:
        raise UserError(f"{rule}; got {path!r}, which raises {reason(error)}; correct it") from error


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
    """The options that a class or function takes by name; None where it takes any, or says nothing of it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # not callable, or written in C
        return None
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
    fit_options(function, options, where)
    with told(f"{where}: {spec[TARGET]} must take its options", "correct them"):
        return function(*args, **supplied, **options)


def having(made: Any, spec: Mapping[str, Any], where: str, names: Iterable[str]) -> Any:
    """What a spec made, if it has what is asked of it; UserError names what it lacks.

    Args:
        made: what `call` returned.
        spec: that it was called with.
        where: the place of ``spec`` in the config.
        names: attributes that it needs.

    """
    if lacking := [name for name in names if not hasattr(made, name)]:
        got = f"{spec[TARGET]} makes a {type(made).__name__} without {', '.join(lacking)}"
        raise UserError(f"{where} must make what can be a {where}; got {got}; name another")
    return made


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
    hints = hints_of(cls)
    values = {}
    for key, value in options.items():
        inner = hints.get(key)
        nested = dataclasses.is_dataclass(inner) and isinstance(value, Mapping)
        values[key] = _filled(inner, value, f"{where}.{key}") if nested else value
        fit(values[key], inner, f"{where}.{key}")
    missing = [n for n, f in fields.items() if n not in values and not has_default(f)]
    if missing:
        raise UserError(f"{where} needs {missing[0]}; got {', '.join(options) or 'nothing'}; set {where}.{missing[0]}")
    with told(f"{where} must take its options", "correct them"):
        return cls(**values)


def check_specs(node: Any, where: str) -> None:
    """Refuse options of what a config calls, at any depth, that do not fit it: before anything is read or made.

    Args:
        node: a config or a part of one.
        where: its place, for the words of an error.

    """
    if not isinstance(node, Mapping):
        return
    if TARGET in node:
        fit_options(target_of(node, where), {key: value for key, value in node.items() if key != TARGET}, where)
    for key, part in node.items():
        check_specs(part, f"{where}.{key}")


def has_default(field: "dataclasses.Field[Any]") -> bool:
    """Whether a field may be left out."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """What a field is where nothing is said."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def device_of(name: str) -> torch.device:
    """The device of a name: ``auto`` is a GPU where torch sees one. UserError for ``cuda`` without one."""
    one_of("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda needs a GPU that torch sees; got none; pass device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
