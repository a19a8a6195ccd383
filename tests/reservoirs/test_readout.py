"""Readouts and scores against their equations, and what may not be asked of them."""

import pytest
import torch
from torch import Tensor

from neuromod import RefusedError
from neuromod.meta.closed_form import ridge as class_ridge
from neuromod.reservoirs import Moments, Reservoir, fit, memory_curve, nmse, nrmse, states
from tests.reservoirs import slow

RNG = torch.Generator().manual_seed(6)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> None:
    assert a.shape == b.shape
    assert float((a - b).abs().max()) < tol


def test_a_readout_is_the_closed_form() -> None:
    x, u, y = randn(30, 4), randn(30, 1), randn(30, 2)
    found = fit(x, y, inputs=u, ridge=0.3, washout=5)
    stacked = torch.cat([x, u, torch.ones(30, 1, dtype=torch.float64)], 1)[5:]
    truth = slow.readout(stacked.T, y[5:].T, 0.3)
    close(torch.cat([found.head.weight, found.head.bias[:, None]], 1), truth)
    close(found(x, u)[5:], stacked @ truth.T)


def test_several_ridges_from_one_eigendecomposition() -> None:
    x, y = randn(40, 6), randn(40, 2)
    many = Moments.of(x, y).solve([1e-6, 0.1, 10.0])
    for ridge, weight in zip([1e-6, 0.1, 10.0], many, strict=True):
        close(weight, slow.readout(x.T, y.T, ridge), 1e-8)


def test_it_is_the_ridge_of_classes_on_centred_numbers() -> None:
    x, labels = randn(50, 5), torch.arange(50) % 3
    x = x - x.mean(0)
    y = torch.nn.functional.one_hot(labels).double()
    head = class_ridge(x, labels, 3, penalty=2.0)
    close(Moments.of(x, y - y.mean(0)).solve([2.0])[0], head.weight)


def test_moments_of_two_sequences_add_up() -> None:
    x, y = randn(2, 20, 4), randn(2, 20, 1)
    one = Moments.of(x[0], y[0]) + Moments.of(x[1], y[1])
    close(one.solve([0.1]), Moments.of(x.flatten(0, 1), y.flatten(0, 1)).solve([0.1]))
    found = fit(x, y, ridge=0.1)
    whole = fit(x.flatten(0, 1), y.flatten(0, 1), ridge=0.1)
    close(found.head.weight, whole.head.weight)


def test_a_ridge_is_chosen_on_held_out_steps_and_fitted_on_all() -> None:
    x = randn(60, 30)
    y = x @ randn(30, 1) + 2 * randn(60, 1)
    ridges = [1e-9, 1e-2, 30.0, 1e4]
    found = fit(x, y, ridge=ridges, washout=10, held_out=15)
    for ridge in ridges:
        early = fit(x[10:45], y[10:45], ridge=ridge)
        assert found.held_out[ridge] == pytest.approx(nrmse(early(x[45:]), y[45:]), rel=1e-6)
    assert found.ridge == min(found.held_out, key=lambda r: found.held_out[r])
    close(found.head.weight, fit(x[10:], y[10:], ridge=found.ridge).head.weight, 1e-8)


def test_every_reservoir_has_a_readout_of_its_own() -> None:
    x, y = randn(3, 2, 25, 4), randn(2, 25, 1)
    found = fit(x, y, ridge=[0.1, 1.0], held_out=5, each=True)
    for r in range(3):
        alone = fit(x[r], y, ridge=found.ridge)
        close(found.head.weight[r], alone.head.weight)
        close(found(x)[r], alone(x[r]))


def test_a_ridge_of_nothing_is_the_smallest_solution() -> None:
    x, y = randn(20, 3), randn(20, 1)
    twice = torch.cat([x, x], 1)
    close(fit(twice, y, ridge=0.0)(twice), fit(x, y, ridge=0.0)(x), 1e-8)


def test_nmse_and_its_root() -> None:
    a, b = randn(50), randn(50)
    assert nmse(a, b) == pytest.approx(slow.nmse(a.tolist(), b.tolist()), rel=1e-12)
    assert nrmse(a, b) == pytest.approx(nmse(a, b) ** 0.5)
    assert nmse(b.mean().expand(50), b) == pytest.approx(1.0)
    assert nmse(b, b) == 0.0


def test_memory_is_the_correlation_of_a_readout_with_the_past() -> None:
    """A line of ten delays holds ten inputs exactly and nothing more."""
    u = randn(600)
    line = torch.stack([u.roll(k) for k in range(1, 11)], 1)
    curve = memory_curve(line, u, 14, washout=20, ridge=1e-9)
    close(curve[:10], torch.ones(10, dtype=torch.float64), 1e-9)
    assert float(curve[10:].max()) < 0.1
    net = Reservoir(30, radius=0.9, input_scale=0.1, seed=0)
    (x,) = states(net, u[None, :, None])[0]
    own = memory_curve(x, u, 40, washout=50)
    assert 5 < float(own.sum()) < 30
    half = (600 - 50) // 2
    readout = fit(x[50 : 50 + half], u[47 : 47 + half, None], ridge=1e-9)
    said = readout(x[50 + half :])[:, 0]
    assert float(own[2]) == pytest.approx(slow.memory(said.tolist(), u[47 + half : 597].tolist()), rel=1e-6)


X, Y = randn(20, 3), randn(20, 1)
NAN = torch.where(torch.arange(20)[:, None] == 7, torch.nan, X)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: fit(X, Y, ridge=-1e-3), "ridge must be a finite number of 0 or more"),
        (lambda: fit(X, Y, ridge=[]), "got none"),
        (lambda: fit(X, Y, ridge=[1.0, 2.0]), "chosen on held-out steps"),
        (lambda: fit(X, Y, washout=20), "20 and 0 of 20 leave none"),
        (lambda: fit(X, Y, washout=12, held_out=8), "12 and 8 of 20"),
        (lambda: fit(X, Y, washout=-1), "washout must be"),
        (lambda: fit(NAN, Y), "states must be finite; got NaN or infinity at step 7 of 20"),
        (lambda: fit(X, NAN), "targets must be finite"),
        (lambda: fit(X, Y, inputs=NAN), "inputs of a readout must be finite"),
        (lambda: fit(X, Y[:10]), "got 10 for 20"),
        (lambda: fit(X[None], Y.expand(3, -1, -1)), r"targets are of the sequences of the states, \(1,\)"),
        (lambda: fit(X[None], Y, inputs=X.expand(3, -1, -1)), "inputs of a readout are of the sequences"),
        (lambda: fit(torch.ones(20, 3), Y, ridge=1e-300), "1e-300 is too small for these states"),
        (lambda: fit(X, Y, inputs=Y[:10]), "same steps; got 10 and 20"),
        (lambda: fit(X, Y)(X, Y), "3 numbers a step; got 4"),
        (lambda: fit([1.0], Y), "states are real floats"),
        (lambda: nmse(X, Y), "against one of its shape"),
        (lambda: nmse(X, NAN), "finite"),
        (lambda: nmse(X[:, :1], torch.ones(20, 1)), "variance of what is wanted"),
        (lambda: memory_curve(X, Y, 0), "delays must be"),
        (lambda: memory_curve(X, Y, 5, washout=19), "19 of 20 are left out"),
        (lambda: memory_curve(X, X, 5), "of one input"),
    ],
)
def test_a_mistake_gets_one_line(made: object, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        made()  # type: ignore[operator]
    assert "\n" not in str(refused.value)
