"""``train``: run an experiment, or every combination of the values that its overrides list."""

import argparse
from collections.abc import Sequence
from typing import Any

from tasks.commands.draws import draws
from tasks.commands.sweep import sweep, swept
from tasks.config.files import folders_of
from tasks.config.load import load
from tasks.experiment import execute
from tasks.report import write
from tasks.report.table import headline
from tasks.runs.files import read_json


def train(options: argparse.Namespace) -> int:
    """Train, print the headline, draw the pictures."""
    if options.multirun:
        return _multirun(options, options.overrides)
    config = load(options.overrides)
    if "sweep" in config:
        return _multirun(options, swept(config, options.overrides))
    command = ["python", "-m", "tasks", "train", *options.overrides]
    folder = execute(config, root=options.root, command=command, jobs=options.jobs)
    result = read_json(folder / "result.json")
    print(summary(result))
    page = folder / "plots" / "report.html"
    if not page.exists():
        write([folder], page, result["title"], draws=draws(config, folders_of(options.overrides)))
    print(f"pictures: {page}")
    print(folder)
    return 0


def summary(result: dict[str, Any]) -> str:
    """A result for a terminal: its headline, and how often tasks were inferred."""
    value = headline(result["value"], result["metric"]) + (" %" if result["metric"] == "accuracy" else "")
    lines = [f"{result['title']}: {result['metric']} {value}"]
    if (lost := (result["measures"].get("matrix") or {}).get("forgetting")) is not None:
        lines[0] += f", forgetting {100 * lost:.2f} %"
    for method, one in (result["measures"].get("inference") or {}).items():
        groups = "".join(f", {share:.4f} for {size}" for size, share in one.get("groups", {}).items())
        lines.append(f"task inference by {method}: {one['image']:.4f} for one image{groups}; class {one['class']:.4f}")
    for name, one in (result["measures"].get("conditions") or {}).items():
        lines.append(f"accuracy under {name} conditions: {one['accuracy']:.4f} (chance {one['chance']:.4f})")
    return "\n".join(lines)


def _multirun(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    folders = sweep(overrides, root=options.root, jobs=options.jobs)
    for folder in folders:
        print(f"{summary(read_json(folder / 'result.json')).splitlines()[0]}  {folder}")
    page = options.root / "report.html"
    print(f"pictures: {write(folders, page, 'neuromod', draws=draws(folders=folders_of(overrides)))}")
    return 0
