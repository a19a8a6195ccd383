"""Samples of old tasks, and targets stored or made again."""

import copy

import pytest
import torch

from neuromod import (
    Affine,
    Mixture,
    Modulated,
    Modulator,
    OutputRegulariser,
)
from neuromod.sources.context import Context
from tests.training.regularise.common import SOURCES, draw, held, modulated, shake, shared, slow_penalty, target


def test_the_mean_of_many_samples_is_the_whole() -> None:
    model = modulated()
    regulariser = held(model, 0, 1, 2, sample=2)
    full = OutputRegulariser(model, beta=0.7, seed=5)
    full.load_state_dict(regulariser.state_dict())
    for name, parameter in shared(regulariser.sources["affine"]).items():
        with torch.no_grad():
            parameter += 0.2 * draw(*parameter.shape, seed=len(name))
    drawn = torch.stack([regulariser.penalty().detach() for _ in range(600)])
    assert len(drawn.unique()) == 3
    error = float(drawn.std()) / len(drawn) ** 0.5
    assert abs(float(drawn.mean()) - full.penalty().item()) < 4 * error
    assert int(regulariser.draws) == 600
    assert int(full.draws) == 0


def test_a_sample_is_keyed_by_seed_and_step() -> None:
    values = {}
    for seed in (5, 5, 6):
        model = modulated()
        regulariser = held(model, 0, 1, 2, sample=1, seed=seed)
        shake(regulariser.sources["affine"].head)
        drawn = [regulariser.penalty().item() for _ in range(12)]
        assert values.setdefault(seed, drawn) == drawn
    assert values[5] != values[6]


@pytest.mark.parametrize("source", SOURCES)
def test_stored_targets_are_those_that_are_recomputed(source: str) -> None:
    model = modulated("generated", source)
    stored, recomputed = (held(model, stored=stored, sample=2) for stored in (True, False))
    for task in (0, 1, 2):
        for regulariser in (stored, recomputed):
            regulariser.hold(task)
        for parameter in shared(model.named_modulators()["generated"].source).values():
            with torch.no_grad():
                parameter += 0.1 * draw(*parameter.shape, seed=task)
        for _ in range(4):
            a, b = stored.penalty(), recomputed.penalty()
            assert a.item() == pytest.approx(b.item(), rel=1e-12)
            assert a.item() > 0
    count = sum(value.numel() for value in recomputed.weights.buffers())
    assert count == sum(p.numel() for p in shared(model.named_modulators()["generated"].source).values())
    assert len(list(recomputed.rows.buffers())) == len(list(stored.weights.buffers())) == 0


def test_hard_experts_are_held_task_by_task_in_evaluation_too() -> None:
    t = target()
    model = Modulated(t, Modulator(Affine(), Mixture(2, "task", form="hard", tasks=4, hidden=6), t.norms(), seed=0))
    shake(model)
    model.eval()
    regulariser = held(model, 0, 1, 2)
    rows = [model.modulators["affine"](Context((), 0, tasks=(task,))).one() for task in range(3)]
    for key, value in regulariser.rows["affine"].named_buffers():
        assert torch.equal(value, torch.stack([row[key] for row in rows]))
    assert regulariser.penalty().item() == 0
    assert model.train() is model
    assert regulariser.penalty().item() < 1e-20


@pytest.mark.parametrize("stored", [True, False])
def test_a_sealed_task_needs_no_holding(stored: bool) -> None:
    model = modulated("scores")
    regulariser = held(model, 0, 1, stored=stored)
    own = regulariser.sources["threshold"]
    then = copy.deepcopy(own)
    model.seal(0)
    shake(own.head)
    expected = slow_penalty(own, then, [1], 0.7).item()
    assert regulariser.penalty().item() == pytest.approx(expected, rel=1e-12)
    regulariser.hold(2)
    assert regulariser.held.tolist() == [1, 2]
