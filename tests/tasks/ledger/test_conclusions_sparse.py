"""What the pages on sparse training and growth conclude is what the ledger says."""

import pytest

from tasks.report.interval import difference as paired
from tests.tasks.ledger.test_conclusions import MEAN, ROOT, ROWS, cells


def difference(one: str, other: str) -> tuple[float, float]:
    """The mean difference of two rows over their common seeds and half of its 95 % interval."""
    found = paired(ROWS[one]["values"], ROWS[other]["values"])
    assert found is not None
    low, high = found
    return (low + high) / 2, (high - low) / 2


@pytest.mark.parametrize(
    ("label", "row"),
    [
        ("the ticket", "ticket"),
        ("its wires over another start", "reinitialised"),
        ("each layer's wires shuffled", "shuffled"),
        ("as many, spread uniformly", "random"),
    ],
)
def test_the_table_of_tickets_is_the_ledgers(label: str, row: str) -> None:
    rows = (f"imp-{row}", f"imp-{row}-early")
    assert cells("sparse.md", label, 2) == [f"{100 * MEAN[name]:.1f}" for name in rows]


@pytest.mark.parametrize("control", ["reinitialised", "shuffled", "random"])
def test_a_ticket_is_above_all_fast(control: str) -> None:
    late, half = difference("imp-ticket", f"imp-{control}")
    early, wide = difference("imp-ticket-early", f"imp-{control}-early")
    assert early - wide > 0
    assert early > 0.5
    assert late < early
    assert (late - half > 0) == (control != "reinitialised")
    assert control == "reinitialised" or round(100 * late) == {"shuffled": 8, "random": 25}[control]


def test_the_table_of_rules_is_the_ledgers() -> None:
    page = (ROOT / "docs/sparse.md").read_text().splitlines()
    names = next(line for line in page if line.startswith("| dense | GMP |"))
    values = page[page.index(names) + 2]
    found = {
        name.strip(): value.strip() for name, value in zip(names.split("|")[1:-1], values.split("|")[1:-1], strict=True)
    }
    assert found == {name: f"{100 * MEAN[f'sparse-digits-{name.lower()}']:.1f}" for name in found}
    assert len(found) == 12


def test_where_wires_may_move_they_find_their_places() -> None:
    for rule, points in (("rigl", 28), ("set", 21)):
        mean, half = difference(f"sparse-digits-{rule}", "sparse-digits-static")
        assert round(100 * mean) == points
        assert mean - half > 0
    for leader, shown in (("gmp", True), ("dnw", False)):
        mean, half = difference(f"sparse-digits-{leader}", "sparse-digits-rigl")
        assert (mean - half > 0) == shown
    assert (
        difference("sparse-mnist-dnw", "sparse-mnist-rigl")[0] > difference("sparse-mnist-dnw", "sparse-mnist-rigl")[1]
    )
    assert "reaches {:.1f}, random ones {:.1f}".format(
        *(100 * MEAN[f"sparse-digits-{name}"] for name in ("snip-shuffled", "random"))
    ) in " ".join((ROOT / "docs/sparse.md").read_text().split())
    for one, other in (("snip", "snip-shuffled"), ("snip-shuffled", "random")):
        mean, half = difference(f"sparse-digits-{one}", f"sparse-digits-{other}")
        assert mean - half > 0


def test_a_larger_start_helps_wires_that_stay() -> None:
    for rule, shown in (("static", True), ("rigl", False)):
        mean, half = difference(f"sparse-digits-{rule}-rescaled", f"sparse-digits-{rule}")
        assert (abs(mean) > half) == shown
    reached = f"they reach {100 * MEAN['sparse-digits-static-rescaled']:.1f};"
    assert reached in (ROOT / "docs/sparse.md").read_text()


@pytest.mark.parametrize(("label", "prefix"), [(".02", ""), (".01", "01-")])
def test_the_table_of_mnist_is_the_ledgers(label: str, prefix: str) -> None:
    rules = ("static", "set", "rigl", "snip", "snfs", "gmp", "dnw")
    expected = [f"{100 * (1 - MEAN[f'sparse-mnist-{prefix}{rule}']):.2f}" for rule in rules]
    assert cells("sparse.md", label, 7) == expected
    dense = f"(dense: {100 * (1 - MEAN['sparse-mnist-dense']):.2f})"
    assert dense in (ROOT / "docs/sparse.md").read_text()


@pytest.mark.parametrize(("label", "prefix"), [(".1", "10-"), (".05", "05-")])
def test_the_table_of_denser_mnist_is_the_ledgers(label: str, prefix: str) -> None:
    found = {
        rule: f"{100 * (1 - MEAN[f'sparse-mnist-{prefix}{rule}']):.2f}" for rule in ("static", "set", "rigl", "dnw")
    }
    assert cells("sparse.md", label, 7) == [*list(found.values())[:3], "-", "-", "-", found["dnw"]]


@pytest.mark.parametrize(("label", "prefix"), [("density .02", ""), ("density .01", "01-")])
def test_the_table_of_long_trainings_is_the_ledgers(label: str, prefix: str) -> None:
    rows = [ROWS[f"sparse-mnist-long-{prefix}{rule}"] for rule in ("rigl", "dnw")]
    expected = [f"{100 * (1 - row['mean']):.2f}" for row in rows]
    assert cells("sparse.md", label, 3) == [*expected, f"{100 * (1 - rows[1]['published']['value']):.2f}"]


def test_at_one_in_a_hundred_rigl_makes_half_of_the_errors() -> None:
    errors = {rule: 1 - MEAN[f"sparse-mnist-01-{rule}"] for rule in ("static", "rigl", "dnw", "gmp")}
    assert 0.45 < errors["rigl"] / errors["static"] < 0.6
    for rule in ("dnw", "gmp"):
        mean, half = difference(f"sparse-mnist-01-{rule}", "sparse-mnist-01-rigl")
        assert mean - half > 0


def test_grown_wires_are_worth_more_than_twice_as_many_that_stay() -> None:
    rows = {"502 (1 %)": ("01-static", None, "01-rigl"), "1,004 (2 %)": ("static", "set", "rigl")}
    for label, names in rows.items():
        expected = ["-" if name is None else f"{100 * MEAN[f'growth-{name}']:.1f}" for name in names]
        assert cells("growth.md", label, 3) == expected
    mean, half = difference("growth-01-rigl", "growth-static")
    assert mean - half > 0


@pytest.mark.parametrize(
    ("label", "stream"),
    [("four permutations", "permuted"), ("four rotations", "rotated"), ("five pairs of classes", "split")],
)
def test_the_table_at_equal_bits_is_the_ledgers(label: str, stream: str) -> None:
    arms = ("masks", "moving", "wires", "lowrank")
    assert cells("growth.md", label, 4) == [f"{100 * MEAN[f'equal-{arm}-{stream}']:.1f}" for arm in arms]


@pytest.mark.parametrize("stream", ["permuted", "rotated"])
def test_masks_that_move_lose_to_all(stream: str) -> None:
    for arm in ("masks", "wires", "lowrank"):
        mean, half = difference(f"equal-{arm}-{stream}", f"equal-moving-{stream}")
        assert mean - half > 0
