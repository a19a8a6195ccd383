"""What the page on generators says of its rows is what the ledger has."""

import math
import re
from pathlib import Path

import pytest

from tasks.ledger.store import load_ledger

ROOT = Path(__file__).parents[3]
ROWS = {row["row"]: row for row in load_ledger(ROOT / "results")}
PAGE = (ROOT / "docs" / "generators.md").read_text()
MEAN = {name: row["mean"] for name, row in ROWS.items()}


def cells(label: str) -> list[str]:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {label} |") and line.count("|") == 5]
    return [cell.strip() for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize(
    ("label", "row", "random"),
    [("FiLM", "film", "film-random"), ("mAdaFM", "adafm", "adafm-random"), ("all weights of a copy", "whole", None)],
)
def test_the_table_of_errors(label: str, row: str, random: str | None) -> None:
    _, error, drawn = cells(label)
    assert error == f"{MEAN[f'decoder-{row}']:.4f}"
    assert drawn == ("" if random is None else f"{MEAN[f'decoder-{random}']:.4f}")


def test_ratios() -> None:
    """Of geometric means, as the bars have them."""
    told = dict(re.findall(r"(FiLM|mAdaFM) ([\d.]+) times", PAGE))
    found = {
        name: MEAN[f"decoder-{row}-ratio"] - MEAN["decoder-whole-log"]
        for name, row in (("FiLM", "film"), ("mAdaFM", "adafm"))
    }
    assert told == {name: f"{math.exp(value):.2f}" for name, value in found.items()}
    assert all(ROWS[f"decoder-{row}-ratio"]["verdict"] == "held" for row in ("film", "adafm"))


def test_the_bars_over_a_random_decoder_are_missed() -> None:
    assert "neither is half" in " ".join(PAGE.split())
    for row in ("film", "adafm"):
        assert ROWS[f"decoder-{row}-over-random"]["verdict"] == "missed"


def test_old_tasks_and_starts() -> None:
    assert "not a bit of a sample" in " ".join(PAGE.split())
    for row in ("film", "adafm"):
        assert ROWS[f"decoder-{row}-moved"]["values"] == [0, 0, 0]
        assert max(ROWS[f"decoder-{row}-start"]["values"]) <= 1e-6
