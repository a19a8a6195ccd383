"""The pictures of the results: drawn from rows of the ledger, and theirs."""

from pathlib import Path

from tasks.ledger.bars import load_bars
from tasks.ledger.drawings import buys as gates
from tasks.ledger.drawings import hidden as nothing_trained
from tasks.ledger.drawings import price as priced
from tasks.ledger.drawings import tradeoff as recipes_of
from tasks.ledger.drawings.buys import ARMS, FEATURES, HEADS, buys
from tasks.ledger.drawings.hidden import CHOICES, DENSITIES, DEPTHS, RANDOM, hidden
from tasks.ledger.drawings.price import price
from tasks.ledger.drawings.tradeoff import recipes, tradeoff
from tasks.ledger.store import load_ledger

RESULTS = Path(__file__).parents[3] / "results"


def rows(*names: str) -> list[dict[str, object]]:
    return [
        {"row": f"tradeoff-{name}-{key}", "mean": mean}
        for place, name in enumerate(names)
        for key, mean in (("known", 0.96 - 0.01 * place), ("one-shot", 0.3 + 0.5 * place), ("lead", 1.0 + place))
    ]


def test_recipes_stand_in_the_order_of_their_accuracy() -> None:
    assert list(recipes(rows("sgd-1", "rmsprop-0.0003")).values()) == ["RMSprop 0.0003", "SGD 1"]


def test_a_picture_needs_two_recipes_and_draws_what_is_there() -> None:
    assert tradeoff(rows("sgd-1")) is None
    drawn = tradeoff(rows("sgd-1", "rmsprop-0.0003"))
    assert drawn is not None
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "RMSprop 0.0003" in drawn
    assert drawn == tradeoff(rows("sgd-1", "rmsprop-0.0003"))
    assert drawn != tradeoff(rows("sgd-1", "sgd-0.3"))


def test_the_picture_in_the_results_shows_every_recipe_of_the_ledger() -> None:
    ledger = load_ledger(RESULTS)
    shown = (RESULTS / "tradeoff.svg").read_text()
    assert len(recipes(ledger)) >= 6
    assert all(name in shown for name in recipes(ledger).values())


def test_a_picture_of_what_is_hidden_needs_two_rows_and_draws_what_is_there() -> None:
    found = [{"row": name, "mean": 0.1 * i, "spread": None} for i, (name, _, _) in enumerate(CHOICES)]
    assert hidden(found[:1]) is None
    drawn = hidden(found[:3])
    assert drawn is not None
    assert CHOICES[2][1] in drawn
    assert CHOICES[3][1] not in drawn
    assert drawn != hidden(found)
    swept = found + [{"row": name, "mean": 0.5, "spread": 0.1} for name in (*DENSITIES.values(), *DEPTHS.values())]
    assert hidden(swept) != hidden(found)


def test_the_picture_of_what_is_hidden_names_rows_that_are_written_down() -> None:
    bars = load_bars(RESULTS)
    assert {*(name for name, _, _ in CHOICES), *DENSITIES.values(), *DEPTHS.values(), *RANDOM.values()} <= set(bars)
    ledger = load_ledger(RESULTS)
    assert (RESULTS / "hidden.svg").read_text() == hidden(ledger)


def test_a_picture_of_what_a_gate_buys_needs_two_arms_and_draws_what_is_there() -> None:
    found = [
        {"row": f"meta-{name}-{length}", "mean": 0.01 * i, "spread": 0.001}
        for i, (name, _) in enumerate(ARMS)
        for length in (100, 600)
    ]
    assert buys(found[:2]) is None
    drawn = buys(found[:4])
    assert drawn is not None
    assert ARMS[1][1] in drawn
    assert ARMS[2][1] not in drawn
    assert drawn != buys(found)
    heads = [{"row": f"meta-{name}-{end}", "mean": 0.5, "spread": None} for name in FEATURES for end in HEADS.values()]
    assert buys(found + heads[1:]) != buys(found)


def test_the_picture_of_what_a_gate_buys_is_the_ledgers() -> None:
    ledger = load_ledger(RESULTS)
    assert (RESULTS / "buys.svg").read_text() == buys(ledger)


def test_a_picture_knows_the_rows_that_it_shows() -> None:
    for module, draw in ((recipes_of, tradeoff), (nothing_trained, hidden), (gates, buys)):
        ledger = load_ledger(RESULTS)
        shown = [row for row in ledger if module.shows(row["row"])]
        assert draw(shown) == draw(ledger)
        assert len(shown) < 110


def test_a_picture_of_what_bytes_buy_needs_both_rows_of_two_kinds() -> None:
    both = {"film": (0.6, 4176.0), "masks": (0.85, 33604.0)}
    found: list[dict[str, object]] = [
        {"row": f"bytes-{name}{end}", "mean": mean}
        for name, means in both.items()
        for end, mean in zip(("", "-size"), means, strict=True)
    ]
    assert price(found[:3]) is None
    drawn = price(found)
    assert drawn is not None
    assert all(name in drawn for name in ("film 0.600 at 4,176", "masks 0.850 at 33,604", ">10,000<"))


def test_the_picture_of_what_bytes_buy_has_a_row_of_accuracy_and_one_of_bytes_for_each_kind() -> None:
    shown = {name for name in load_bars(RESULTS) if priced.shows(name)}
    kinds = {name for name in shown if not name.endswith("-size")}
    assert shown == kinds | {f"{name}-size" for name in kinds}
    assert len(kinds) >= 12
