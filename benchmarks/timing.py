"""Interleaved timing: contenders take turns in one process, and only ratios within one turn are compared.

A ratio is taken turn by turn and summed up by its median, so that a slow second of the machine falls on all contenders
alike. Time is the process time of one thread; absolute times never leave this file.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Contenders = Mapping[str, Callable[[], object]]
Verdict = Literal["held", "missed", "printed only"]


@dataclass(frozen=True)
class Bar:
    """A ratio and what it is held to; ``limit=None`` is printed only.

    ``low`` and ``high`` are the quartiles of the ratio over the turns of the run.
    """

    name: str
    ratio: float
    limit: float | None = None
    op: Literal["<=", ">="] = "<="
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> Verdict:
        """``"held"``, ``"missed"`` (also where the ratio is not a number) or ``"printed only"``."""
        if self.limit is None:
            return "printed only"
        held = self.ratio <= self.limit if self.op == "<=" else self.ratio >= self.limit
        return "held" if held else "missed"


@dataclass(frozen=True)
class Report:
    """What one benchmark found: its bars, and the conditions under which they were measured."""

    name: str
    bars: tuple[Bar, ...]
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The exit status: 1 where a bar was missed."""
        return int(any(bar.verdict == "missed" for bar in self.bars))

    def json(self) -> str:
        """All of it as JSON."""
        bars = [asdict(bar) | {"verdict": bar.verdict} for bar in self.bars]
        return json.dumps({"name": self.name, "bars": bars, "conditions": dict(self.conditions)}, indent=2)

    def table(self) -> str:
        """All of it as an aligned table, a bar a line."""
        header = ("ratio", "median", "quartiles", "bar", "verdict")
        lines = [header, *(_cells(bar) for bar in self.bars)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        conditions = [f"{key}: {value}" for key, value in self.conditions.items()]
        return "\n".join([self.name, "", *rows, "", *conditions])


@dataclass(frozen=True)
class Samples:
    """Seconds of process time of each contender, turn by turn."""

    seconds: Mapping[str, list[float]]

    def bar(self, name: str, over: str, under: str, limit: float | None = None, op: Literal["<=", ">="] = "<=") -> Bar:
        """The ratio ``over / under``, turn by turn: its median and quartiles, held to ``limit``."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        ratios = [a / b for a, b in pairs]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return Bar(name, median, limit, op, low, high)

    def median(self, name: str) -> float:
        """Median seconds of a contender: to set against a limit of the machine that was measured in the same run."""
        return statistics.median(self.seconds[name])


def interleave(
    contenders: Contenders,
    *,
    turns: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.process_time,
) -> Samples:
    """Run every contender once a turn, after ``warm_up`` turns unmeasured; the order rotates from turn to turn."""
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warm_up, turns):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            contenders[name]()
            taken = clock() - start
            if turn >= 0:
                seconds[name].append(taken)
    return Samples(seconds)


def _cells(bar: Bar) -> tuple[str, ...]:
    limit = "-" if bar.limit is None else f"{bar.op} {bar.limit:g}"
    spread = "-" if bar.low is None or bar.high is None else f"{bar.low:.3g} .. {bar.high:.3g}"
    return bar.name, f"{bar.ratio:.3g}", spread, limit, bar.verdict
