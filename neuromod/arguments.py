"""What a user gives, parsed in one place: counts, numbers, ids, flags, dtypes and devices; or refused in one line."""

import math
import operator
from collections.abc import Collection, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch

from neuromod.errors import RefusedError, first_line, nearest

Thing = TypeVar("Thing")
LARGEST = 2**63 - 1
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def count(value: Any, what: str, *, least: int = 0, most: int = LARGEST) -> int:
    """A whole number: an int, or what counts as one (numpy's integers, an integer tensor of one element).

    Refused: bools, floats (also whole ones), and numbers outside the range.

    >>> count(3, "steps"), count(torch.tensor(2), "batch", least=1)
    (3, 2)

    Args:
        value: what was given.
        what: it is called, for the refusal.
        least: the smallest that is taken.
        most: the largest that is taken.

    """
    whole = _whole(value)
    if whole is None or not least <= whole <= most:
        bound = f"of {least} or more" if most == LARGEST else f"from {least} to {most}"
        raise RefusedError(f"{what} must be an integer {bound}; got {shown(value)}; correct it")
    return whole


# reason: the bounds of a range, each by its name
def number(
    value: Any,
    what: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    """A finite number in a range, from an int, a float, or what counts as one.

    Refused: bools, text, None, nan, infinities, and numbers outside the range.

    Args:
        value: what was given.
        what: it is called, for the refusal.
        least: the smallest that is taken.
        above: a bound that is not itself taken (0 for a rate).
        most: the largest that is taken.
        below: a bound that is not itself taken (1 for a momentum).

    """
    real = math.nan
    if not isinstance(value, bool | str | bytes | type(None)) and getattr(value, "dtype", None) is not torch.bool:
        try:
            # A Python integer beyond 63 bits is no number of torch.
            real = math.nan if isinstance(value, int) and abs(value) > LARGEST else float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            real = math.nan
    if not math.isfinite(real) or real < least or real <= above or real > most or real >= below:
        sides = [f"above {above:g}"] * (above > -math.inf) + [f"of {least:g} or more"] * (least > -math.inf)
        sides += [f"of {most:g} at most"] * (most < math.inf) + [f"below {below:g}"] * (below < math.inf)
        raise RefusedError(
            f"{what} must be a finite number {' and '.join(sides)}".rstrip() + f"; got {shown(value)}; correct it"
        )
    return real


def task_id(value: Any) -> int:
    """An id of a task: an integer of 0 or more that fits 63 bits; bools are none."""
    whole = _whole(value)
    if whole is None or not 0 <= whole < 2**63:
        raise RefusedError(
            f"a task id is an integer of 0 or more, and not a bool; got {shown(value)}; pass task=0, say"
        )
    return whole


def task_ids(values: Any) -> tuple[int, ...]:
    """Distinct ids of tasks, in their order."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise RefusedError(f"task ids come in a list; got {shown(values)}; pass [0, 3], say")
    ids = tuple(task_id(value) for value in values)
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise RefusedError(f"task ids are distinct; got {twice} twice; name each task once")
    return ids


def flag(value: Any, what: str) -> bool:
    """True or False, and nothing that only counts as one."""
    if not isinstance(value, bool):
        raise RefusedError(f"{what} must be True or False; got {shown(value)}; correct it")
    return value


def one_of(value: Any, what: str, known: Collection[str]) -> str:
    """A name among those known; another is refused with the nearest.

    Args:
        value: what was given.
        what: it is called, for the refusal.
        known: the names.

    """
    if not isinstance(value, str) or value not in known:
        raise RefusedError(
            f"{what} must be one of {tuple(known)}; got {shown(value)}; try {nearest(str(value), known, 1)}"
        )
    return value


def floating(value: Any, what: str = "dtype") -> torch.dtype:
    """A real floating dtype that can be trained in: float16, bfloat16, float32 or float64, or its name."""
    known = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
    found = known.get(value.removeprefix("torch.")) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype) or found not in known.values():
        raise RefusedError(f"{what} must be one of {tuple(known)}; got {shown(value)}; correct it")
    return found


def device(value: Any) -> torch.device:
    """A device that exists here: "cpu", "cuda:0", or a `torch.device`."""
    try:
        found = torch.device(value)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise RefusedError(
            f"a device must exist here; got {shown(value)} ({first_line(error)}); pass 'cpu', say"
        ) from error
    return found


def instance(value: Any, kind: type[Thing], what: str) -> Thing:
    """An object of a class; its class itself, say, is none.

    Args:
        value: what was given.
        kind: the class.
        what: it is called, for the refusal.

    """
    if not isinstance(value, kind):
        raise RefusedError(f"{what} must be a {kind.__name__}; got {shown(value)}; pass one")
    return value


def function(value: Any, what: str) -> Any:
    """Something that is called; ``what`` says what it is, for the refusal."""
    if not callable(value) or isinstance(value, type):
        raise RefusedError(f"{what} must be a function; got {shown(value)}; pass one")
    return value


def tensor(value: Any, what: str, *axes: int, integers: bool = False) -> torch.Tensor:
    """A tensor of real floats, or of integers.

    Args:
        value: what was given.
        what: it is called, for the refusal.
        axes: how many axes it may have; none given: any number.
        integers: whether its numbers are integers, and not floats.

    """
    wanted = INTEGERS if integers else FLOATS
    if not isinstance(value, torch.Tensor) or value.dtype not in wanted or (axes and value.ndim not in axes):
        numbers = f"{'integers' if integers else 'real floats'}"
        sizes = f" of {' or '.join(map(str, axes))} axes" if axes else ""
        raise RefusedError(f"{what} must be a tensor{sizes} with {numbers}; got {shown(value)}; convert it")
    return value


def named(value: Any, what: str) -> Mapping[str, Any]:
    """Something for each of several names, which are texts; ``what`` says what it is, for the refusal."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise RefusedError(f"{what} must be a dict by name; got {shown(value)}; pass one")
    return value


def tensors(value: Any, what: str, *, masks: bool = False) -> Mapping[str, torch.Tensor]:
    """Tensors of real floats by name.

    Args:
        value: what was given.
        what: it is called, for the refusal.
        masks: whether they may be bools or integers as well.

    """
    taken = (*FLOATS, *INTEGERS, torch.bool) if masks else FLOATS
    for name, one in named(value, what).items():
        if not isinstance(one, torch.Tensor) or one.dtype not in taken:
            numbers = "real numbers or bools" if masks else "real floats"
            raise RefusedError(
                f"{what} must be tensors with {numbers} by name; got {shown(one)} for {name!r}; convert it"
            )
    return value  # type: ignore[no-any-return]


def folder_path(value: Any) -> Path:
    """The path of a folder, from text or a path."""
    if not isinstance(value, str | PathLike) or "\0" in str(value):
        raise RefusedError(f"a folder is named by text or a path; got {shown(value)}; pass 'runs/store', say")
    return Path(value)


def shown(value: Any) -> str:
    """What was given, short enough for one line."""
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        return f"a tensor of {tuple(value.shape)}, {value.dtype}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or getattr(value, "dtype", None) is torch.bool or getattr(value, "ndim", 0) != 0:
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
