"""Noise is keyed by the draw."""

import torch

from neuromod import (
    Bernoulli,
    Modulated,
    Modulator,
    Table,
)
from tests.traps.common import IDS, close, noisy


def test_noise_is_keyed_by_the_draw() -> None:
    model, x = noisy()
    for mode in (True, False):
        model.train(mode)
        same = [model(x, task=IDS, draw=4) for _ in range(2)]
        assert torch.equal(*same)
        assert not torch.equal(same[0], model(x, task=IDS, draw=5))
        state = torch.get_rng_state()
        model(x, task=IDS, draw=6)
        assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(model(x, task=0), model(x, task=0))  # evaluation draws nothing
    close(model(x, task=IDS, draw=4), torch.cat([model(x[i : i + 1], task=t, draw=4) for i, t in enumerate(IDS)]))


def test_the_counter_of_draws_is_part_of_the_state() -> None:
    model, x = noisy()
    model.train()
    first = [model(x, task=0) for _ in range(2)]
    assert not torch.equal(*first)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    third = model(x, task=0)
    assert not torch.equal(third, first[1])
    twin, _ = noisy()
    twin = Modulated(model.target, Modulator(Bernoulli(), Table(3), model.target.weights("*"), seed=0)).train()
    twin.load_state_dict(state)
    assert torch.equal(twin(x, task=0), third)
    assert torch.equal(model(x, task=0, draw=0), first[0])
    model.eval()(x, task=0)
    assert int(model.draws) == 3
