"""Readable refusals: the rule, the value, the remedy, on one line."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


def nearest(name: str, names: Iterable[object], count: int = 3) -> str:
    """The names most like ``name``, quoted and joined, for the end of a message.

    >>> nearest("layer1.conv", ["layer1.conv1", "layer2.bn", "fc"])
    "'layer1.conv1', 'layer2.bn'"

    Args:
        name: what was given.
        names: what exists; the first of these where none is alike.
        count: how many to name at most.

    """
    pool = list(dict.fromkeys(str(n) for n in names))
    close = difflib.get_close_matches(name, pool, n=count, cutoff=0.4) or pool[:count]
    return ", ".join(repr(n) for n in close)


class RefusedError(ValueError):
    """A request that neuromod does not honour; the message names the rule, the value and the remedy."""


class AbsentError(RefusedError):
    """A refusal because a network has nothing of what is asked for: no norms, no biases, no linear layer."""


class ExampleError(RefusedError):
    """A network does not run on the example it was given; ``__cause__`` is what the network itself raised."""


def first_line(error: BaseException) -> str:
    """What an error says, short enough for one line of a refusal, with its type."""
    # Some say in bold what a line can't.
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


@contextmanager
def refusing(rule: str, remedy: str, kind: type[RefusedError] = RefusedError) -> Iterator[None]:
    """Code of others inside: whatever it raises is refused in one line, ``rule`` (what it says) ``remedy``.

    Args:
        rule: what the code should have done, and that it did not.
        remedy: what to do about it; none where the caller adds one.
        kind: of the refusal.

    """
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        raise kind(f"{rule} ({first_line(error)}); {remedy}") from error
