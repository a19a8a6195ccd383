"""What layers put out is heard before an update alone, by copies as by the original."""

import copy
import pickle

import torch

from neuromod.rewiring import rule_of
from tests.rewiring.models import train, wiring_of

SGD = {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-2}


def test_a_copy_in_the_middle_of_a_training_goes_on_as_the_original() -> None:
    for name in ("rigl", "activity"):
        model, wiring = wiring_of(rule_of(name, every=4))
        optimizer = torch.optim.SGD(model.parameters(), **SGD)
        train(model, wiring, optimizer, range(4))
        twins = [copy.deepcopy((model, wiring, optimizer)), pickle.loads(pickle.dumps((model, wiring, optimizer)))]
        train(model, wiring, optimizer, range(4, 20))
        for twin, other, second in twins:
            train(twin, other, second, range(4, 20))
            for site, wires in wiring.wires.items():
                assert torch.equal(wires, other.wires[site])
                assert torch.equal(wiring.births[site], other.births[site])
                assert torch.equal(wiring.values[site], other.values[site])


def test_layers_are_hooked_only_before_an_update_and_nothing_is_kept_behind_it() -> None:
    model, wiring = wiring_of(rule_of("activity", every=4))
    optimizer, layer = torch.optim.SGD(model.parameters(), lr=0.1), model.skeleton.layer("0")
    hooks = []
    for step in range(6):
        hooks.append(len(layer._forward_hooks))
        train(model, wiring, optimizer, range(step, step + 1))
    assert hooks == [1, 0, 0, 0, 1, 0]
    assert wiring._hearing is not None
    assert wiring._hearing.heard("0.weight") is None


def test_activity_is_heard_of_a_single_sample_too() -> None:
    model, wiring = wiring_of(rule_of("activity", every=1))
    x = torch.ones(8, dtype=torch.float64)
    assert model.skeleton({}, (x,)).shape == (5,)
    assert wiring._hearing is not None
    heard = wiring._hearing.heard("0.weight")
    assert heard is not None
    assert heard[0].shape == (1, 8)
