"""A hypernetwork that is fitted to rows."""

import copy
from functools import partial
from typing import Any

import pytest
import torch

from neuromod import Affine, Hypernet, Kind, LowRankDelta, Modulator, Table, Threshold, TopK, fit_rows
from neuromod.sources.base import Row
from neuromod.training.modulations import context_of
from tests.refusals import refuses
from tests.training.test_spread import CONDITIONS, made, moved

KINDS: list[Kind] = [Affine(), LowRankDelta(2), Threshold(), TopK(0.5)]


def given(kind: Kind) -> list[Row]:
    """Rows of five tasks."""
    table = moved(made(kind, Table(5)))
    return [{key: value.detach().clone() for key, value in table.source.own(task).items()} for task in range(5)]


def adam(modulator: Modulator, lr: float = 1e-2) -> torch.optim.Optimizer:
    return torch.optim.Adam(modulator.parameters(), lr=lr)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("reads", ["task", "condition"])
def test_rows_are_met(kind: Kind, reads: str) -> None:
    modulator = made(kind, Hypernet("task", 5) if reads == "task" else Hypernet("condition", embedding=4))
    asked: Any = range(5) if reads == "task" else CONDITIONS
    rows = given(kind)
    assert fit_rows(modulator, rows, asked, adam(modulator), steps=0) == pytest.approx(1.0)
    assert fit_rows(modulator, rows, asked, adam(modulator), steps=400) < 1e-3


def test_a_chosen_adapter_is_reproduced() -> None:
    row = given(Affine())[0]
    modulator = made(Affine(), Hypernet("condition", embedding=4))
    assert fit_rows(modulator, [row], CONDITIONS[:1], adam(modulator), steps=400) < 1e-6
    found = modulator.source(context_of(modulator, CONDITIONS[:1])).one()
    assert all(torch.allclose(found[key], value, atol=1e-2) for key, value in row.items())


def test_rows_at_rest_are_met_as_live_ones_are() -> None:
    """The bits of a mask are all that its scores do."""
    table, modulator = moved(made(Threshold(), Table(5))), made(Threshold(), Hypernet("task", 5))
    other = copy.deepcopy(modulator)
    live = [table.source.own(task) for task in range(5)]
    rest = [table.stored(task) for task in range(5)]
    assert live[0].keys() != rest[0].keys()
    assert fit_rows(modulator, live, range(5), adam(modulator), steps=20) == fit_rows(
        other, rest, range(5), adam(other), steps=20
    )


def test_the_rows_that_are_given_stay_and_one_optimiser_goes_on() -> None:
    rows = given(Affine())
    before = copy.deepcopy(rows)
    whole, parts = (made(Affine(), Hypernet("task", 5)) for _ in range(2))
    one, several = adam(whole), adam(parts)
    fit_rows(whole, rows, range(5), one, steps=6)
    for _ in range(3):
        fit_rows(parts, rows, range(5), several, steps=2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert all(torch.equal(a[k], b[k]) for a, b in zip(rows, before, strict=True) for k in a)


def test_rows_that_are_the_start_have_an_error_of_zero() -> None:
    modulator = made(Affine(), Hypernet("task", 2))
    start = modulator.start("offset")
    assert fit_rows(modulator, [start, start], range(2), adam(modulator), steps=2) == 0


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"rows": given(Affine())[:4]}, ("a row is given for each of the 5 conditions",)),
        ({"rows": given(Affine())[0]}, ("a row is given for each of the 5 conditions",)),
        ({"rows": given(LowRankDelta(2))}, ("a row has the numbers of Affine", "row 0 has")),
        ({"rows": [{k: v[:-1] for k, v in row.items()} for row in given(Affine())]}, ("row 0 has",)),
        ({"rows": [{k: v * torch.nan for k, v in row.items()} for row in given(Affine())]}, ("row 0 has NaN",)),
        ({"rows": ["a"] * 5}, ("the numbers of row 0 must be a dict by name; got 'a'",)),
        ({"conditions": [0]}, ("conditions come in a tensor",)),
        ({"conditions": torch.ones(5, 3)}, ("a condition is (4)", "got (5, 3)")),
        ({"steps": -1}, ("steps must be an integer of 0 or more; got -1",)),
        ({"modulator": None}, ("what is fitted to rows must be a Modulator",)),
        (
            {"optimizer": torch.optim.SGD([torch.ones(1)], lr=1.0)},
            ("an optimiser of the modulator's parameters", "SGD"),
        ),
        ({"optimizer": torch.optim.LBFGS}, ("without a closure; got LBFGS",)),
        (
            {"optimizer": partial(torch.optim.SGD, lr=1e20), "steps": 50},
            ("the error of rows must stay finite", "lower the rate (lr)"),
        ),
    ],
)
def test_what_is_not_fitted(change: dict[str, Any], parts: tuple[str, ...]) -> None:
    modulator = made(Affine(), Hypernet("condition", embedding=4))
    call: dict[str, Any] = {
        "modulator": modulator,
        "rows": given(Affine()),
        "conditions": CONDITIONS,
        "optimizer": adam(modulator),
        "steps": 2,
    } | change
    if not isinstance(call["optimizer"], torch.optim.Optimizer):
        call["optimizer"] = call["optimizer"](modulator.parameters())
    with refuses(*parts):
        fit_rows(**call)
