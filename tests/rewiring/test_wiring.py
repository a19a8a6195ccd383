"""Which places have a wire: states that are taken up or refused, and the sites that a rule is held to."""

import copy

import pytest
import torch

from neuromod import RefusedError
from neuromod.rewiring import rule_of
from tests.rewiring.models import train, wiring_of

SGD = {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-2}


def test_a_state_that_was_taken_up_is_not_moved_by_the_training() -> None:
    _, wiring = wiring_of(rule_of("set", every=2))
    state = copy.deepcopy(wiring.state_dict())
    kept = copy.deepcopy(state)
    model, other = wiring_of(rule_of("set", every=2))
    other.load_state_dict(state)
    train(model, other, torch.optim.SGD(model.parameters(), **SGD), range(9))
    for part in ("births", "starts"):
        assert all(torch.equal(value, state[part][site]) for site, value in kept[part].items())


def test_a_state_of_another_rewiring_is_refused() -> None:
    _, wiring = wiring_of(rule_of("rigl"))
    before = copy.deepcopy(wiring.state_dict())
    _, held = wiring_of(rule_of("rigl"), sites=["0.weight"])
    _, latent = wiring_of(rule_of("dnw"))
    _, smaller = wiring_of(rule_of("rigl"))
    cut = {"0.weight": torch.zeros(3, dtype=torch.uint8), "2.weight": smaller.state_dict()["wires"]["2.weight"]}
    for state, words in (
        ({}, r"for the same sites and rule; got \[\]"),
        (None, "for the same sites and rule; got None"),
        (held.state_dict(), r"its wires are of \['0.weight'\], not of"),
        (latent.state_dict(), r"its latents are of \['0.weight', '2.weight'\], not of \[\]"),
        (smaller.state_dict() | {"wires": cut}, "its wires at '0.weight' are of another shape"),
        (smaller.state_dict() | {"done": -1}, "the step of a state of wires must be"),
    ):
        with pytest.raises(RefusedError, match=words):
            wiring.load_state_dict(state)  # type: ignore[arg-type]
    assert wiring.state_dict()["done"] == before["done"]


@pytest.mark.parametrize("sites", [[], ["0.weight", "0.weight"]])
def test_a_rule_is_held_to_sites_that_are_named_once(sites: list[str]) -> None:
    with pytest.raises(RefusedError, match="one site or more, each named once"):
        wiring_of(rule_of("rigl"), sites=sites)
