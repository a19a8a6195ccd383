"""``metrics.jsonl`` of an open run: appended to line by line, counted and digested as it grows."""

import hashlib
import os
from pathlib import Path
from typing import Any

from tasks.runs.digests import write_sealed
from tasks.runs.files import write_atomic
from tasks.runs.records import COUNT, DIGESTS, METRICS, whole_lines


class Metrics:
    """The lines of a run; what a killed process left half written is dropped first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = whole_lines(path)
        whole = sum(map(len, lines))
        if path.exists() and path.stat().st_size > whole:
            os.truncate(path, whole)
        self._take(lines)

    def append(self, line: bytes) -> None:
        """Write one more line, flushed."""
        # Closed after each line: a process that is killed leaves whole lines and at most one torn end.
        with open(self.path, "ab") as file:
            file.write(line)
        self.count += 1
        self._sum.update(line)

    def sync(self) -> None:
        """Make the lines outlive the machine."""
        with open(self.path, "ab") as file:
            os.fsync(file.fileno())

    def keep(self, lines: list[bytes]) -> None:
        """Keep the first lines, and drop all others."""
        self._take(lines)
        # The account of fewer lines is true of more: it goes first, for a process may end in between.
        if (account := self.path.with_name(DIGESTS)).exists():
            write_sealed(account, self.account())
        write_atomic(self.path, b"".join(lines))

    def account(self) -> dict[str, Any]:
        """The number of the lines, and SHA-256 in hex of their bytes as they were written."""
        return {COUNT: self.count, METRICS: self._sum.hexdigest()}

    def _take(self, lines: list[bytes]) -> None:
        self.count, self._sum = len(lines), hashlib.sha256(b"".join(lines))
