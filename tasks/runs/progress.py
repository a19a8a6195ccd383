"""Progress with loss, accuracy and time left: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from typing import TextIO


class Progress:
    """Tells how far a run is, at most every ``every`` seconds (a terminal) or ten times that (elsewhere).

    Args:
        title: before each line.
        total: steps of the run.
        done: steps that were taken before.
        stream: written to; None: stderr.
        every: seconds between lines on a terminal.

    """

    def __init__(
        self, title: str, total: int, *, done: int = 0, stream: TextIO | None = None, every: float = 0.5
    ) -> None:
        self.title, self.total, self.first = title, total, done
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.every = every if self.live else 10 * every
        self.began = self.last = time.monotonic()

    def update(self, done: int, **numbers: float) -> None:
        """Tell the state after ``done`` steps, with some numbers beside it."""
        now = time.monotonic()
        if now - self.last < self.every and done < self.total:
            return
        self.last = now
        spent = now - self.began
        left = spent / max(done - self.first, 1) * (self.total - done)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        line = f"{self.title}  {done}/{self.total} ({done / self.total:4.0%})  {shown}  {clock(spent)} spent, {clock(left)} left"
        self.stream.write(f"\r\x1b[2K{line}" if self.live else f"{line}\n")
        self.stream.flush()

    def close(self) -> None:
        """Clear the live line of a terminal; elsewhere nothing is left to do."""
        if self.live:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()


def clock(seconds: float) -> str:
    """``75`` seconds as ``1:15``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
