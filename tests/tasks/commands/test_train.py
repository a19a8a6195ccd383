"""What is printed at the end of a run: its headline, and what its measures say of themselves."""

from pathlib import Path
from typing import Any

import pytest

from tasks.commands.train import summary

ONE = {"image": 0.5, "class": 0.25, "groups": {"16": 1.0}}


def result(**measures: Any) -> dict[str, Any]:
    return {"title": "A run", "metric": "accuracy", "value": 0.875, "measures": measures}


def config(**measures: Any) -> dict[str, Any]:
    known = {name: {"_target_": f"tasks.continual.measures.{name}"} for name in ("inference", "conditions")}
    return {"run": {"_target_": "tasks.continual.Sequence", "measures": known | measures}}


def test_every_measure_says_its_own_line() -> None:
    found = result(
        matrix={"forgetting": 0.125},
        inference={"one_shot": ONE, "hopfield": {"image": 0.75, "class": 0.5}},
        conditions={"swapped": {"accuracy": 0.2, "chance": 0.1}},
    )
    assert summary(found, config()).splitlines() == [
        "A run: accuracy 87.50 %, forgetting 12.50 %",
        "task inference by one_shot: 0.5000 for one image, 1.0000 for 16; class 0.2500",
        "task inference by hopfield: 0.7500 for one image; class 0.5000",
        "accuracy under swapped conditions: 0.2000 (chance 0.1000)",
    ]


def test_what_was_not_found_says_nothing() -> None:
    for found in (result(), result(matrix={"forgetting": None}), result(matrix=None, inference={})):
        assert summary(found, config(conditions=None)) == "A run: accuracy 87.50 %"
    assert summary(result(), {"run": {"_target_": "tasks.meta.FewShot"}}) == "A run: accuracy 87.50 %"


OWN = """
def measure(learner, stream, bench): return {"wires": 3}
def summary(found): return f"{found['wires']} wires"
"""


@pytest.mark.parametrize("path", ["own_wires", "own_wires.measure"])
def test_a_measure_of_ones_own_says_what_it_found(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_wires.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    said = summary(result(wires={"wires": 3}), config(wires={"_target_": path}))
    assert said == "A run: accuracy 87.50 %, 3 wires"
