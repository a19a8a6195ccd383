"""A run that is ended behind one of its checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tasks.runs.run import Run


@contextmanager
def ended(at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The run inside ends behind its checkpoint of this number, from 1."""
    save, calls = Run.save, []

    def saved(self: Any, tree: Any, step: int) -> None:
        save(self, tree, step)
        calls.append(step)
        if len(calls) == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Run, "save", saved)
        try:
            yield
        except KeyboardInterrupt:
            return
    raise AssertionError(f"the run had but {len(calls)} checkpoints")
