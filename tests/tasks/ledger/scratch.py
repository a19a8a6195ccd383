"""A results folder of two rows, and finished runs for them: what the tests of the ledger forge."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.ledger.bars import load_bars
from tasks.ledger.entry import Entry
from tasks.runs.run import Run

BARS = """
seeds: [0, 1, 2]
rows:
  psp:
    title: Superposition | of tasks
    overrides: [model.width=8, model.rate=1e-3, +kind=topk]
    metric: inference.one_shot
    bar: {op: ">=", value: 0.9}
    published: {value: 0.94, source: "Wortsman et al. 2020, table 2", note: "250 tasks, ours 20"}
    note: small
  plain:
    title: Plain
    seeds: [0]
    metric: accuracies.-1
"""
ABOVE = """
  more:
    title: More
    seeds: [0]
    metric: accuracies.-1
    bar: {op: ">=", value: 0.05, above: plain}
"""
DATA = {"name": "mnist", "sha256": "5e", "substitute": None, "tasks": 20}
CONFIG = {"experiment": "permuted", "model": {"width": 8, "rate": 0.001}, "kind": {"_target_": "neuromod.TopK"}}


def write_bars(results: Path, text: str, experiment: str = "permuted") -> dict[str, Entry]:
    """The bars of one experiment of a results folder, written and read."""
    (results / experiment).mkdir(parents=True, exist_ok=True)
    (results / experiment / "bars.yaml").write_text(text)
    return load_bars(results)


def finished(
    root: Path, seed: int = 0, value: Any = 0.95, data: Mapping[str, Any] = DATA, bars: Any = None, **config: Any
) -> Run:
    """A finished run that knew the digests of `bars` (entries by row) when it began."""
    command = ["python", "-m", "tasks", "run", "permuted", f"seed={seed}"]
    known = {row: entry.sha256 for row, entry in (bars or {}).items()}
    with Run.open(root, "permuted", CONFIG | {"seed": seed} | config, "ab", command, bars=known) as run:
        run.finish({"inference": {"one_shot": value}, "accuracies": [0.1, 0.2], "data": data})
    return run
