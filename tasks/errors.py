"""Mistakes of a user, told in one line: the rule, the value, the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake that the user can repair; the command line prints its one line without a traceback."""


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """The names most like `name`, comma separated; the first few where none is like it, 'none' where there are none."""
    known = sorted(set(names))
    lowered = {other.lower(): other for other in known}
    close = [lowered[match] for match in get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)]
    return ", ".join(close or known[:count]) or "none"
