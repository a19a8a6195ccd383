"""Conditions that come again in a batch."""

from typing import Any

import pytest
import torch

from neuromod import Affine, Hypernet, LowRankDelta, Modulated, Modulator, Threshold
from tests.contract.laws import close
from tests.sources.test_conditions import SETS, X, film, target
from tests.target.test_taps import moved


@pytest.mark.parametrize("kind", [Affine(), LowRankDelta(2), Threshold()], ids=str)
def test_samples_that_share_a_condition_share_a_row(kind: Any) -> None:
    """Three conditions in a batch of six make three rows, in outputs and gradients what each sample alone has."""
    t = target()
    sites = t.norms() if "output" in kind.roles else t.weights("*")
    model = moved(Modulated(t, Modulator(kind, Hypernet("condition", embedding=3, hidden=6), sites, seed=0)))
    conditions = SETS[:, 0][[4, 1, 4, 0, 1, 4]]
    assert len(next(iter(model.rows(X, condition=conditions).values()))) == 3
    assert len(next(iter(model.rows(X, condition=conditions[:1].expand(6, -1)).values()))) == 1
    mixed, parameters = model(X, condition=conditions), list(model.parameters())
    alone = torch.cat([model(X[i : i + 1], condition=conditions[i]) for i in range(6)])
    close(mixed, alone)
    for a, b in zip(
        torch.autograd.grad(mixed.square().sum(), parameters),
        torch.autograd.grad(alone.square().sum(), parameters),
        strict=True,
    ):
        close(a, b)


def test_conditions_that_a_gradient_flows_to_stay_apart() -> None:
    model = film(Hypernet("condition", embedding=3, hidden=6))
    conditions = SETS[:, 0][[4, 1, 4, 0, 1, 4]].requires_grad_()
    (gradient,) = torch.autograd.grad(model(X, condition=conditions).square().sum(), conditions)
    for i in range(6):
        one = conditions[i].detach().requires_grad_()
        (alone,) = torch.autograd.grad(model(X[i : i + 1], condition=one).square().sum(), one)
        close(gradient[i], alone)
