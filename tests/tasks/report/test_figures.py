"""The drawings of the report on their own: colours, labels, words, and runs that have little to show."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.report import layers
from tasks.report.figures import _spread, scatter
from tasks.report.svg import render, styles
from tests.tasks.report.pages import Page, make_run, write


def test_words_in_a_drawing_stay_as_they_are() -> None:
    words = """a id="x" & <b> xlink:href="#y" $\\alpha$ \N{SNOWMAN}"""
    drawing = render("k", words, (3, 1), lambda figure: figure.text(0.1, 0.5, words))
    assert "".join(Page(drawing).words).strip() == words
    assert Page(drawing).every("svg")[0]["aria-label"] == words


def test_a_method_keeps_its_colour() -> None:
    looks = styles([*"ab", *"acdefghijkl"])
    assert looks["a"] == styles(["a"])["a"]
    assert len({colour for colour, _ in looks.values()}) == len(looks) == 12
    many = styles([str(i) for i in range(72)])
    assert len(set(many.values())) == 72


def test_labels_are_spread_without_overlap() -> None:
    placed = _spread([0.97, 0.98, 0.975, 0.2], 0.05, 0.0, 1.0)
    ordered = sorted(placed)
    assert all(b - a > 0.0499 for a, b in itertools.pairwise(ordered))
    assert placed[0] < placed[2] < placed[1] <= 1.0
    assert placed[3] == 0.2


def line(step: int, task: int, **measured: float) -> dict[str, Any]:
    return {"step": step, "task": task, "phase": "train", **measured}


LOSS_ONLY = [line(step, task, loss=2.3 / (1 + step)) for task in range(3) for step in range(20)]
CASES = {
    "loss where accuracy is not reported": (LOSS_ONLY, {}, {"progress", "matrices", "learning"}),
    "one task, one step": (
        [line(0, 0, loss=0.0, accuracy=1.0)],
        {"matrix": {"matrix": [[0.5]]}},
        {"matrices", "learning"},
    ),
    "nothing measured": ([line(0, 0, loss=float("nan"))], {"matrix": {"matrix": [[None, None]]}}, {"matrices"}),
    "gates above 1, a full mask": (
        [],
        {"matrix": {}, "gates": {"by_task": [[1.7]]}, "masks": {"masks": [[[1, 1]]]}},
        {"gates", "masks"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_runs_with_little_to_show_still_make_a_page(case: str, tmp_path: Path) -> None:
    metrics, changes, expected = CASES[case]
    run = make_run(tmp_path / "run", 2, measures=changes)
    (run / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
    page = Page(write([run], tmp_path / "r.html", case, []).read_text(encoding="utf-8"))
    assert {h["id"] for h in page.every("h2")} == {"h-results", "h-again", *(f"h-{key}" for key in expected)}
    if metrics is LOSS_ONLY:
        assert "training loss" in page.words


def test_a_histogram_shows_every_layer_and_stands_for_one_value_too() -> None:
    one = layers.histogram("gains", "Gains", [[0.0, 1.0], [0.5, 0.5, 2.0]], "#0072B2", "gain")
    assert one.count("<image") == 1
    assert one != layers.histogram("gains", "Gains", [[0.0, 1.0, 0.5], [0.5, 2.0]], "#0072B2", "gain")
    assert "<svg" in layers.histogram("gains", "Gains", [[1.0, 1.0]], "#0072B2", "gain")


@pytest.mark.parametrize("right", [113_296.0, 4_000_000.0])
def test_numbers_on_an_axis_of_powers_are_written_out(right: float) -> None:
    points = [("one", 64_848.0, 0.4), ("two", right, 0.5)]
    looks = styles([name for name, _, _ in points])
    drawn = scatter("k", "label", points, [looks[name] for name, _, _ in points], ("bytes", "accuracy"), log=True)
    assert "100,000" in drawn
    assert "mathdefault" not in drawn
    assert ("70,000" in drawn) == (right < 648_480)
