"""What a refusal looks like: one line that says what a test expects of it."""

import re

import pytest

from neuromod import RefusedError


def refuses(*parts: str) -> "pytest.RaisesExc[RefusedError]":
    """One line that holds every part, in order."""
    return pytest.raises(RefusedError, match=r"\A[^\n]*" + r"[^\n]*".join(map(re.escape, parts)) + r"[^\n]*\Z")
