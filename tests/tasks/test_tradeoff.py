"""The picture of the trade-off: drawn from rows of the ledger, and the one in the results is theirs."""

import json
from pathlib import Path

from tasks.report.tradeoff import recipes, tradeoff

RESULTS = Path(__file__).parents[2] / "results"


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
    ledger = json.loads((RESULTS / "ledger.json").read_text())
    shown = (RESULTS / "tradeoff.svg").read_text()
    assert len(recipes(ledger)) >= 6
    assert all(name in shown for name in recipes(ledger).values())
