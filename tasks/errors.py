"""Mistakes of a user of the experiments, said in one line: the rule, the value, the remedy."""

from collections.abc import Iterable

from neuromod import errors


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
