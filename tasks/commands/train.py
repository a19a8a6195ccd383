"""``train``: run an experiment, or every combination of the values that its overrides list."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.commands.draws import beside, draws
from tasks.commands.sweep import sweep, swept
from tasks.config.build import TARGET, target_of
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
    print(summary(result, config))
    page = folder / "plots" / "report.html"
    if not page.exists():
        write([folder], page, result["title"], draws=draws(config, folders_of(options.overrides)))
    print(f"pictures: {page}")
    print(folder)
    return 0


def summary(result: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """A result for a terminal: its headline, and what its measures say of themselves (``summary`` of a measure)."""
    value = headline(result["value"], result["metric"]) + (" %" if result["metric"] == "accuracy" else "")
    lines = [f"{result['title']}: {result['metric']} {value}"]
    for name, says in _summaries(config["run"]).items():
        said = says(found) if (found := result["measures"].get(name)) else []
        if isinstance(said, str):
            lines[0] += f", {said}" if said else ""
        else:
            lines += said
    return "\n".join(lines)


def _summaries(run: Mapping[str, Any]) -> dict[str, Callable[[Any], str | list[str]]]:
    """What says a measure in words, by its name: of those that the family takes itself, then of those of the config."""
    own = getattr(target_of(run, "run"), "taken", {})
    found = {name: getattr(module, "summary", None) for name, module in own.items()}
    for name, spec in (run.get("measures") or {}).items():
        found[name] = None if spec is None else beside(spec[TARGET], "summary")
    return {name: says for name, says in found.items() if says is not None}


def _multirun(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    done = sweep(overrides, root=options.root, jobs=options.jobs)
    for config, folder in done:
        print(f"{summary(read_json(folder / 'result.json'), config).splitlines()[0]}  {folder}")
    folders = [folder for _, folder in done]
    page = options.root / "report.html"
    print(f"pictures: {write(folders, page, 'neuromod', draws=draws(folders=folders_of(overrides)))}")
    return 0
