"""Choices say where they stand in their grid, and are found again where keys have moved."""

from pathlib import Path

from tasks.ledger.selection import NAME, edges, same
from tasks.runs.files import read_json

RESULTS = Path(__file__).parents[3] / "results"


def test_the_edge_is_told_for_numbers_of_a_grid() -> None:
    points = [{"lr": lr, "schedule": s, "beta": 0.1} for lr in (0.1, 1, 0.01) for s in ("constant", "cosine")]
    inside = {"lr": 0.1, "schedule": "cosine", "beta": 0.1}
    assert edges(points, inside) == dict.fromkeys(inside, False)
    for end in (1, 0.01):
        assert edges(points, {"lr": end, "schedule": "constant", "beta": 0.1})["lr"] is True


def test_a_choice_is_the_same_where_its_keys_have_moved() -> None:
    quoted = {"optimizer.lr": 0.1, "schedule": "cosine"}
    assert same(quoted, quoted)
    assert same({"run.optimizer.lr": 0.1, "run.schedule": "cosine"}, quoted)
    assert not same({"run.optimizer.lr": 0.2, "run.schedule": "cosine"}, quoted)
    assert not same({"run.optimizer.lr": 0.1, "run.reschedule": "cosine"}, quoted)
    assert not same(quoted | {"beta": 1}, quoted)


def test_the_committed_choices_carry_their_edge() -> None:
    files = sorted(RESULTS.rglob(NAME))
    assert len(files) == 103
    for path in files:
        made = read_json(path)
        assert made["edge"] == edges([row["point"] for row in made["rows"]], made["choice"])
        assert path.parent == RESULTS / made["experiment"]
