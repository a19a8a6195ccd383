"""Stores to damage: how they are made, opened and refused."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuromod import (
    Modulated,
    Modulator,
    Table,
    Target,
    TopK,
)
from neuromod.bank import config as config_file
from tests.bank.models import X

LENET = (784, 300, 100, 100)


def lenet_masks(tasks: int) -> Modulated:
    layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(LENET)]
    t = Target(nn.Sequential(*layers), torch.zeros(2, 784))
    made = Modulated(t, Modulator(TopK(), Table(tasks), t.weights("*"), seed=0))
    for task in range(tasks):
        made.seal(task)
    return made


def same(a: Modulated, b: Modulated, task: int) -> bool:
    return bool(torch.equal(a.eval()(X, task=task), b.eval()(X, task=task)))


def task_file(folder: Path, task: int = 0) -> Path:
    return folder / "tasks" / f"{task}.safetensors"


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The config with a change and the SHA-256 that belongs to it: what someone who means harm would write."""
    path = folder / "config.json"
    data = json.loads(path.read_bytes())
    del data["sha256"]
    change(data)
    number = data.pop("format")
    path.write_text(json.dumps({"format": number, "sha256": config_file._digest(data), **data}))
    return folder
