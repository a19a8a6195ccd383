"""What docs/tickets.md says was found is what the ledger says."""

from pathlib import Path

from tasks.ledger.store import load_ledger

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/tickets.md").read_text()
ROWS = {r["row"].removeprefix("tickets-"): r for r in load_ledger(ROOT / "results") if r["row"].startswith("tickets-")}
MEAN = {name: row["mean"] for name, row in ROWS.items()}


def cells(label: str) -> list[str]:
    """The last two cells of a line of the table."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.split("|")[3:5]]


def changed(name: str) -> str:
    accuracy, change = (f"{MEAN[f'{name}-{of}']:.3f}" for of in ("accuracy", "change"))
    return f"accuracy {accuracy.lstrip('0')}, changed by {change.lstrip('0')} points"


def test_the_table_is_the_ledgers() -> None:
    small = f"certified {MEAN['small-certified']:.1e}, measured {MEAN['small-measured']:.1e}"
    assert cells("a drawn 10-32-32-5") == [small, ""]
    for label, row in (
        ("ten of them, spectral norms 1, in one network", "ten"),
        ("the same with more spare units", "ten-each"),
    ):
        largest = MEAN["ten-certified" if row == "ten" else "ten-each"]
        assert cells(label) == [f"largest certified {largest:.1e}", f"{MEAN[f'{row}-seconds']:.1f}"]
    for label, row in (("LeNet-300-100, trained on MNIST", "lenet"), ("784-500-10, trained on MNIST", "pensia")):
        assert cells(label) == [changed(row), f"{MEAN[f'{row}-seconds']:.1f}"]
    head = [f"largest relative error {MEAN['head-error']:.1e}", f"{MEAN['head-seconds']:.1f}"]
    assert cells("one of four heads of a trained attention") == head


def test_what_is_concluded_is_so() -> None:
    assert f"by {-MEAN['small-slope-least']:.3f} bits per candidate".replace("0.", ".") in PAGE
    assert f"{max(ROWS['ten-certified']['values']):.3f}".lstrip("0") + " and not to" in PAGE
    assert MEAN["ten-each-missed"] == 0
    assert max(ROWS["ten-each"]["values"]) < 0.001
    assert max(ROWS["head-error"]["values"]) < 0.01
    assert max(ROWS["small-certified"]["values"]) < 0.01 > max(ROWS["small-measured"]["values"])
    assert f"{MEAN['pensia-kept']:.2f} candidates per weight where they report 9.39" in PAGE.replace("\n  ", " ")
    assert f"takes {MEAN['pensia-shared']:.0f} microseconds" in PAGE
    assert f"own {MEAN['pensia-own']:.0f}." in PAGE
    assert MEAN["pensia-seconds"] < 30 < 77_266 / 1000
