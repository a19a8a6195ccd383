"""Penalties against their equations."""

from typing import Any

import pytest
import torch

from neuromod import Affine, Gate, Hypernet, Modulated, Modulator, RefusedError, Table, Target
from neuromod.training.penalties import gates, load_balance, sparsity
from tasks.networks import mlp
from tests.contract.laws import close
from tests.refusals import refuses
from tests.target.test_taps import moved

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def target() -> Target:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Target(mlp((12,), 5, (10, 8), norm="layer").double(), X)


def gated(form: str = "hard") -> Modulated:
    t = target()
    each = Modulator(Gate(form), Hypernet("input", hidden=7), t.norms(), seed=0)
    return moved(Modulated(t, each, Modulator(Affine(), Table(2), t.norms(), seed=0)))


def test_gates_are_the_factors_of_each_sample() -> None:
    model = gated()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    ids = [0, 1, 0, 1, 0, 1]
    found = gates(model, model.rows(X, task=ids))
    assert {key: tuple(v.shape) for key, v in found.items()} == {"gate/2": (6, 10), "gate/5": (6, 8)}
    for key, values in found.items():
        assert set(values.unique().tolist()) == {0.0, 1.0}, key
        for i in range(6):
            close(values[i : i + 1], gates(model, model.rows(X[i : i + 1], task=0))[key])
    assert torch.equal(model(X, rows=model.rows(X, task=ids)), model(X, task=ids))


def test_sparsity_is_its_equation_and_trains_the_gates() -> None:
    model = gated()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    found = gates(model, model.rows(X, task=0))
    means = [v.detach().mean().item() for v in found.values()]
    assert sparsity(found, 0.25).item() == pytest.approx(sum((m - 0.25) ** 2 for m in means) / 2)
    for _ in range(60):
        optimizer.zero_grad()
        sparsity(gates(model, model.rows(X, task=0)), 0.25).backward()
        optimizer.step()
    after = [v.detach().mean().item() for v in gates(model, model.rows(X, task=0)).values()]
    assert all(abs(m - 0.25) < 0.1 for m in after), (means, after)


def test_load_balance_is_the_squared_coefficient_of_variation() -> None:
    weights = torch.rand(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    importance = [sum(weights[b, e].item() for b in range(7)) for e in range(4)]
    mean = sum(importance) / 4
    variance = sum((v - mean) ** 2 for v in importance) / 4
    assert load_balance(weights).item() == pytest.approx(variance / mean**2)
    assert load_balance(torch.eye(4)).item() == 0
    assert load_balance(torch.eye(4)[[0, 0, 0, 0]]).item() == pytest.approx(3)


def test_refusals() -> None:
    t = target()
    plain = Modulated(t, Modulator(Affine(), Table(1), t.norms(), seed=0))
    with pytest.raises(RefusedError, match="kind Gate"):
        gates(plain, plain.rows(X, task=0))
    with pytest.raises(RefusedError, match=r"in \[0, 1\]; got 25"):
        sparsity({"a": torch.ones(2, 3)}, 25)
    with pytest.raises(RefusedError, match="two experts"):
        load_balance(torch.ones(5, 1))
    with pytest.raises(RefusedError, match="rows= says all"):
        plain(X, task=0, rows=plain.rows(X, task=0))


@pytest.mark.parametrize("wrong", [None, 3, "x", [1], {0: None}, torch.zeros(3), torch.zeros(3, 4, dtype=torch.long)])
def test_wrong_arguments_get_one_line(wrong: Any) -> None:
    model = gated()
    for attempt, said in (
        (lambda: gates(wrong, model.rows(X, task=0)), "the model whose gates are penalised must be a Modulated"),
        (lambda: gates(model, wrong), "rows are those of a call"),
        (lambda: sparsity(wrong, 0.5), "factors of gates"),
        (lambda: sparsity({}, 0.5), "one site's at least"),
        (lambda: load_balance(wrong), "weights of experts must be a tensor of 2 axes"),
    ):
        with refuses(said):
            attempt()
