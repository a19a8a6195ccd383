"""What an option may hold: the type and the range that stand beside a field or a parameter, checked in one place."""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from neuromod import RefusedError
from neuromod import arguments as given
from tasks.errors import UserError, nearest


@dataclass(frozen=True)
class Range:
    """Bounds of a number, beside its type: ``Annotated[float, Range(above=0)]``.

    Args:
        least: the smallest that is taken.
        above: a bound that is not itself taken.
        most: the largest that is taken.
        below: a bound that is not itself taken.

    """

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf


# More than a million of what is held in memory at once is a slip of the hand, and would end the machine and not the run.
Count = Annotated[int, Range(least=1, most=1_000_000)]
Number = Annotated[int, Range(least=0, most=1_000_000)]
Steps = Annotated[int, Range(least=0, most=2**62)]
Side = Annotated[int, Range(least=1, most=4096)]
Rate = Annotated[float, Range(above=0)]
Weight = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]


def fit(value: Any, hint: Any, where: str) -> None:
    """Refuse a value that its hint does not take; a hint that says nothing checkable takes everything.

    Args:
        value: as a config has it.
        hint: a type, ``Annotated`` with a `Range` or without, of a field or a parameter.
        where: the place in the config, for the words of a refusal.

    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = next((extra for extra in inner[1:] if isinstance(extra, Range)), Range())
        _fit_number(value, inner[0], where, bounds)
    elif origin in (Union, types.UnionType):
        _fit_one(value, inner, where)
    elif origin is Literal:
        one_of(where, value, inner)
    elif hint in (bool, int, float):
        _fit_number(value, hint, where, Range())
    elif hint is str and not isinstance(value, str):
        raise UserError(f"{where} must be text; got {given.shown(value)}; write it in quotes")
    elif origin in (list, Sequence) and inner:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must be a list; got {given.shown(value)}; write {where}=[...]")
        for place, part in enumerate(value):
            fit(part, inner[0], f"{where}[{place}]")
    elif origin in (dict, Mapping) and inner:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be options by name; got {given.shown(value)}; write {where}={{name: value}}")
        for key, part in value.items():
            fit(part, inner[1], f"{where}.{key}")
    elif dataclasses.is_dataclass(hint) and not isinstance(value, Mapping | hint):
        raise UserError(f"{where} must be options by name; got {given.shown(value)}; write {where}={{name: value}}")


def fit_options(function: Callable[..., Any], options: Mapping[str, Any], where: str) -> None:
    """Refuse options that do not fit the hints of what is called with them.

    Args:
        function: a class or a function.
        options: by name.
        where: the place of the options in the config.

    """
    hints = hints_of(function)
    for key, value in options.items():
        if key in hints:
            fit(value, hints[key], f"{where}.{key}")


def fit_fields(made: Any, where: str) -> None:
    """Refuse fields of a dataclass that do not fit their hints: for its ``__post_init__``, whoever makes it."""
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.init}
    fit_options(type(made), fields, where)


def hints_of(function: Any) -> dict[str, Any]:
    """The hints of a dataclass's fields or of a callable's parameters, ranges too; none where they can't be read."""
    plain = isinstance(function, type) and not dataclasses.is_dataclass(function)
    try:
        return get_type_hints(function.__init__ if plain else function, include_extras=True)
    except (NameError, TypeError, AttributeError):  # hints that only a type checker can read, or none
        return {}


def finite(node: Any, where: str = "") -> None:
    """Refuse nan and infinity anywhere in a config: no option means anything by them."""
    if isinstance(node, float) and not math.isfinite(node):
        raise UserError(f"{where} must be a finite number; got {node}; correct it")
    parts = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, part in parts:
        finite(part, f"{where}.{key}" if where else str(key))


def one_of(where: str, value: object, known: Any) -> None:
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


def _fit_one(value: Any, hints: Sequence[Any], where: str) -> None:
    """A value of a union: the refusal of the last type that is not None where none takes it."""
    if value is None and types.NoneType in hints:
        return None
    refusal: Exception | None = None
    for hint in (h for h in hints if h is not types.NoneType):
        try:
            return fit(value, hint, where)
        except UserError as error:
            refusal = error
    if refusal is not None:
        raise refusal
    return None


def _fit_number(value: Any, kind: type, where: str, bounds: Range) -> None:
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{where} must be true or false; got {given.shown(value)}; correct it")
    elif kind is int and bounds == Range():
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"{where} must be a whole number; got {given.shown(value)}; correct it")
    else:
        try:
            if kind is int:
                given.count(value, where, least=int(bounds.least))
                given.count(value, where, least=int(bounds.least), most=int(bounds.most))
            else:
                given.number(value, where, **dataclasses.asdict(bounds))
        except RefusedError as error:
            raise UserError(str(error)) from error
