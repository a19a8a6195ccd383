"""Runs of experiments on a tiny image set, and what they wrote without what a clock said."""

import json
from pathlib import Path
from typing import Any

from tasks.config.load import load
from tasks.experiment import execute
from tasks.runs.files import read_json

SEQUENCE = ["experiment=demo/base", "data=tiny", "target=lenet_300_100", "target.kwargs.hidden=[16]", "device=cpu"]
SEQUENCE += [
    "stream.tasks=2",
    "outputs=10",
    "batch=16",
    "optimizer.lr=0.01",
    "steps=20",
    "log_every=5",
    "save_every=10",
]
BANK = [
    "experiment=supsup/permuted_250",
    "data=tiny",
    "stream.tasks=5",
    "steps=6",
    "batch=8",
    "outputs=20",
    "device=cpu",
    "log_every=2",
]
BANK += ["target.kwargs.hidden=[12]", "optimizer.lr=0.01", "evaluation.batch=50"]
PLAIN_BANK = list(BANK)
BANK += ["replay.every=1"]
BANK += [
    "inference={methods:[one_shot,verified_margin],images:6,group:2,groups:[3],at:[2,5],predictors:{rank:3,units:20}}"
]


def run_sequence(root: Path, data: str, *overrides: str) -> Path:
    """Train two tasks in sequence; returns the folder of the run."""
    return execute(load([*SEQUENCE, data, *overrides]), root=root, command=["train"], results=root)


def run_bank(root: Path, data: str, *overrides: str) -> Path:
    """Fill a bank of five tasks; returns the folder of the run."""
    return execute(load([*BANK, data, *overrides]), root=root, command=["train"], results=root)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics without what a clock said."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "clock"} for line in found]


def result(folder: Path) -> dict[str, Any]:
    """The result without what a clock said."""
    return {key: value for key, value in read_json(folder / "result.json").items() if key != "seconds"}


def matrix(folder: Path) -> dict[str, Any]:
    """The accuracy matrix of a run, and its numbers."""
    found: dict[str, Any] = result(folder)["measures"]["matrix"]
    return found
