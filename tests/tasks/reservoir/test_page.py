"""The page of reservoirs says what the ledger says."""

from pathlib import Path

import pytest

from tasks.ledger.store import load_ledger

ROOT = Path(__file__).parents[3]
ROWS = {row["row"]: row for row in load_ledger(ROOT / "results") if row["row"].startswith("reservoir-")}
MEAN = {name: row["mean"] for name, row in ROWS.items()}
CELLS = {
    "NARMA10, 200 units, NRMSE": ("narma10-200", 3),
    "NARMA10, 500 units, NRMSE": ("narma10-500", 3),
    "NARMA10, a ring of 200 units, NRMSE": ("narma10-ring-200", 3),
    "Mackey-Glass, 200 units, one step, NRMSE": ("mackey-glass-1", 6),
    "Mackey-Glass, 200 units, 84 steps, NRMSE": ("mackey-glass-84", 3),
    "Santa Fe laser, 500 units, one step, NMSE": ("santa-fe", 4),
    "50 units": ("memory-50", 1),
    "100 units": ("memory-100", 1),
    "200 units": ("memory-200", 1),
    "a ring of 200 units": ("memory-ring-200", 1),
    "nothing": ("contexts-nothing", 3),
    "an input of the readout": ("contexts-told", 3),
    "drawn gains per context, no bias": ("contexts-gains", 3),
    "a drawn bias per context": ("contexts-bias", 3),
    "drawn gains per context, and a bias": ("contexts-gains-bias", 3),
    "each by its conceptor, NRMSE": ("conceptors-recall", 3),
    "patterns above .1, of four": ("conceptors-failures", 1),
    "without conceptors, NRMSE": ("conceptors-without", 2),
    "diagonal conceptors of the same aperture, NRMSE": ("conceptors-diagonal", 2),
}


@pytest.mark.parametrize("label", CELLS)
def test_a_cell_is_a_row(label: str) -> None:
    name, digits = CELLS[label]
    row = ROWS[f"reservoir-{name}"]
    (line,) = [x for x in (ROOT / "docs/reservoirs.md").read_text().splitlines() if x.startswith(f"| {label} |")]
    assert line.split("|")[2].strip() == f"{row['mean']:.{digits}f} ± {row['spread']:.{digits}f}"


def test_what_the_page_concludes() -> None:
    assert MEAN["reservoir-contexts-gains-bias"] < MEAN["reservoir-contexts-bias"] < MEAN["reservoir-contexts-gains"]
    assert abs(MEAN["reservoir-contexts-told"] - MEAN["reservoir-contexts-nothing"]) < 0.01
    assert MEAN["reservoir-contexts-bound"] > 1
    assert MEAN["reservoir-contexts-factor"] == pytest.approx(1 / 3, abs=0.03)
    assert MEAN["reservoir-conceptors-diagonal"] > 1
