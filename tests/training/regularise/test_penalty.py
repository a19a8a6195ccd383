"""The penalty against equation 2 of von Oswald et al. 2020, written as a loop."""

import copy

import pytest
import torch

from neuromod import (
    Affine,
    LowRankDelta,
    Modulated,
    Modulator,
    Table,
    Threshold,
)
from tests.training.regularise.common import KINDS, SOURCES, draw, held, modulated, shake, shared, slow_penalty, target


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_and_its_gradient_are_those_of_the_equation(kind: str, source: str, stored: bool) -> None:
    model = modulated(kind, source)
    own = next(iter(model.named_modulators().values())).source
    regulariser = held(model, 0, 2, 1, stored=stored)
    then = copy.deepcopy(own)
    for name, parameter in shared(own).items():
        with torch.no_grad():
            parameter += 0.2 * draw(*parameter.shape, seed=len(name))
    expected = slow_penalty(own, then, [0, 2, 1], 0.7)
    assert expected.item() > 1e-3
    assert regulariser.penalty().item() == pytest.approx(expected.item(), rel=1e-12)
    wanted = torch.autograd.grad(expected, list(shared(own).values()), allow_unused=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    assert regulariser.backward(optimizer) == pytest.approx(expected.item(), rel=1e-12)
    for (name, parameter), gradient in zip(shared(own).items(), wanted, strict=True):
        assert gradient is not None, name
        assert parameter.grad is not None, name
        assert torch.allclose(parameter.grad, gradient, rtol=1e-9, atol=1e-12), name
        assert float(gradient.abs().max()) > 0, name


def test_several_modulators_are_held_together() -> None:
    t = target()
    parts = [
        Modulator(Affine(), SOURCES["whole"](), t.norms(), seed=0),
        Modulator(Threshold(), SOURCES["basis"](), t.weights("*"), seed=1),
        Modulator(LowRankDelta(rank=1), Table(tasks=4), t.weights("1.weight"), seed=2),
    ]
    model = Modulated(t, *parts)
    regulariser, then = held(model, 0, 1), copy.deepcopy([part.source for part in parts[:2]])
    shake(model, 3)
    with torch.no_grad():
        for part, old in zip(parts, then, strict=False):
            for code, kept in zip(part.source.codes.parameters(), old.codes.parameters(), strict=True):
                code.copy_(kept)
    expected = sum(slow_penalty(part.source, old, [0, 1], 0.7) for part, old in zip(parts, then, strict=False))
    assert regulariser.penalty().item() == pytest.approx(expected.item(), rel=1e-12)
    assert set(regulariser.sources) == {"affine", "threshold"}
