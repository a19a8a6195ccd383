"""Mistakes of a regulariser are told in one line."""

import re
from collections.abc import Callable

import pytest
import torch

from neuromod import (
    Affine,
    Hypernet,
    Modulated,
    Modulator,
    OutputRegulariser,
    RefusedError,
    Source,
    Table,
)
from tests.training.regularise.common import OPTIMISERS, bits, held, loss_of, modulated, target


def reading(source: Source) -> Modulated:
    t = target()
    return Modulated(t, Modulator(Affine(), source, t.norms(), seed=0))


@pytest.mark.parametrize(
    ("attempt", "parts"),
    [
        (lambda: OutputRegulariser(reading(Table(tasks=2)), beta=1, seed=0), ["tasks share", "Table", "a Hypernet"]),
        (lambda: OutputRegulariser(reading(Hypernet("input")), beta=1, seed=0), ["affine reads 'input'", "'task'"]),
        (lambda: OutputRegulariser(modulated(), beta=-0.1, seed=0), ["beta", "-0.1"]),
        (lambda: OutputRegulariser(modulated(), beta=float("nan"), seed=0), ["beta", "nan"]),
        (lambda: OutputRegulariser(modulated(), beta=1, sample=0, seed=0), ["sample=0", "None"]),
        (lambda: held(modulated(), 9), ["task 9"]),
        (lambda: held(modulated(), 1, 1), ["once", "task 1", "[1]"]),
    ],
)
def test_a_mistake_is_told_in_one_line(attempt: Callable[[], object], parts: list[str]) -> None:
    with pytest.raises(RefusedError) as caught:
        attempt()
    assert "\n" not in str(caught.value)
    assert re.search(".*".join(map(re.escape, parts)), str(caught.value))


def test_a_penalty_that_is_not_finite_is_refused_and_nothing_has_moved() -> None:
    model = modulated("affine", "basis")
    regulariser = held(model, 0, lookahead=True)
    optimizer = OPTIMISERS["Adam"](model.parameters())
    loss_of(model, 1).backward()
    with torch.no_grad():
        next(iter(regulariser.sources["affine"].basis.values()))[:] = 1e200
    before = bits(model, optimizer)
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    with pytest.raises(RefusedError, match=r"\Athe penalty must stay finite; got inf; lower [^\n]*\Z"):
        regulariser.backward(optimizer)
    assert bits(model, optimizer) == before
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
