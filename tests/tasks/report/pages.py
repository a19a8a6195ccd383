"""Fake run folders, and what tests ask of the page that is made of them."""

import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tasks.commands.draws import draws
from tasks.report import write as write_page

T = 5
METHODS = (
    ("Supermask, edge-popup", "supermask", "modulator", "per task", 0.9731, 0.0),
    ("FiLM from a hypernetwork", "film", "modulator", "in sequence", 0.9412, 0.0213),
    ("BatchNorm only", "batchnorm", "modulator", "per task", 0.91, None),
    ("Fine-tuning <script>alert(1)</script> & $x_1$", "finetune", "bracket", "in sequence", 0.4127, 0.5218),
    ("Joint training", "joint", "bracket", "jointly", 0.9866, None),
)


def make_run(folder: Path, index: int, **changes: Any) -> Path:
    draw = random.Random(index)
    title, method, role, trained, accuracy, forgetting = METHODS[index]
    drop = forgetting or 0.0
    matrix = [
        [max(0.0, accuracy - drop * (i - j) / 2 + draw.gauss(0, 0.006)) if j <= i else None for j in range(T)]
        for i in range(T)
    ]
    measures: dict[str, Any] = {
        "matrix": {
            "matrix": [[*matrix[-1][:-1], accuracy]] if trained == "jointly" else matrix,
            "forgetting": forgetting,
        }
    }
    result: dict[str, Any] = {
        "title": title,
        "metric": "accuracy",
        "value": accuracy,
        "better": "higher",
        "role": role,
        "trained": trained,
        "costs": {
            "parameters_per_task": 266_200 // (index + 1),
            "bytes_per_task": 33_275 // (index + 1),
            "parameters_shared": 0 if index else 266_200,
            "bytes_with_shared": None,
        },
        "measures": measures,
        "seconds": 41.25 + index,
        "data": {
            "name": "digits-8x8",
            "sha256": "ab" * 32,
            "substitute": "stands in for MNIST, which was out of reach",
            "stream": "permuted digits",
            "tasks": T,
        },
    }
    if method == "supermask":
        overlap = [[1.0 if i == j else 0.33 + draw.gauss(0, 0.02) for j in range(T)] for i in range(T)]
        pictures = [[[draw.random() ** 2 for _ in range(28)] for _ in range(28)] for _ in range(T)]
        measures["masks"] = {"masks": pictures, "overlap": overlap}
        confusion = [[9.0 * T if i == j else 1.0 for j in range(T)] for i in range(T)]
        one = {"image": 0.8712, "groups": {"16": 0.9941}, "confusion": confusion}
        # So few images that there was no group of them.
        measures["inference"] = {"one-shot gradient": one, "lowest entropy": {**one, "image": 0.9, "groups": {}}}
    if method == "film":
        gates = [[draw.random() for _ in range(64)] for _ in range(T)]
        by_class = [[draw.random() for _ in range(64)] for _ in range(2)] + [[None] * 64]
        measures["gates"] = {"by_task": gates, "by_class": by_class}
        measures["routing"] = {"weights": [[0.25, 0.75]] * T, "experts": ["letters", "digits <b>"]}
    steps = range(0, 400, 4)
    lines = [
        {
            "step": task * 400 + step,
            "task": None if trained == "jointly" else task,
            "phase": "train",
            "loss": 2.3 * 0.99**step,
            "accuracy": accuracy * (1 - 0.9 * 0.985**step) + draw.gauss(0, 0.01),
            "clock": {"seconds": 0.1 * step},
        }
        for task in range(T)
        for step in steps
    ]
    folder.mkdir(parents=True)
    config = {"seed": 3 + index, "data": {"order_seed": 11}, "method": method, "optimizer": {"lr": 0.1}}
    environment = {
        "command": f"python -m tasks.continual.sequence method={method} stream=permuted",
        "commit": "0123456789abcdef",
    }
    environment |= {"versions": {"torch": "2.15", "numpy": "2.3"}, "machine": {"cores": 2, "device": "cpu"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    measures |= changes.pop("measures", {})
    (folder / "result.json").write_text(json.dumps(result | changes))
    return folder


def write(runs: list[Path], out: Path, title: str, notes: list[str]) -> Path:
    """A page with every drawing that there is."""
    return write_page(runs, out, title, notes, draws())


class Page(HTMLParser):
    """What the tests ask of a page: tags with attributes, ids and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]
