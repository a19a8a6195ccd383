"""Mistakes of a user of the experiments, said in one line: the rule, the value, the remedy."""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neuromod import RefusedError, errors

# What code that a user names may raise, and code of ours or of others on options that nobody foresaw: all but an exit.
FOREIGN: tuple[type[Exception], ...] = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError),
    *(NameError, OSError, RuntimeError, SyntaxError, TypeError, ValueError),
)


class UserError(ValueError):
    """A mistake that the user can repair; the command line prints its one line without a traceback."""


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """The names most like a mistyped one, quoted and comma separated; 'none' where there are none.

    Args:
        name: what was typed.
        names: what is known.
        count: names at most.

    """
    return errors.nearest(name, sorted(set(names)), count) or "none"


@contextmanager
def told(rule: str, remedy: str = "correct it") -> Iterator[None]:
    """A foreign error inside is a `UserError`: the rule, what was raised and where, the remedy.

    What is said in one line already, and a loss that is not finite, pass as they are.
    """
    try:
        yield
    except (UserError, RefusedError, FloatingPointError):
        raise
    except FOREIGN as error:
        raise UserError(f"{rule}; got {reason(error)}; {remedy}") from error


def reason(error: BaseException) -> str:
    """An error of somebody else's code in a few words, with the file and the line that raised it."""
    lines = str(error).strip().splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    said = f": {lines[0][:300]}" if lines else ""
    return f"{type(error).__name__}{said}{place}"
