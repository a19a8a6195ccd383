"""What a kind says of itself, so that nobody asks for its class."""

from dataclasses import dataclass

import pytest
import torch

import neuromod
from neuromod import Bernoulli, Gate, Head, Kind, Rank1, Threshold
from neuromod.bank.classes import KINDS

PROPERTIES = ("is_mask", "binary", "is_gate", "hard", "own_width", "switched")
TRUE = {
    "TopK": {"is_mask", "binary"},
    "Threshold": {"is_mask", "binary"},
    "Bernoulli": {"is_mask", "binary"},
    "Coats": {"is_mask"},
    "Signed": {"is_mask"},
    "Gate": {"is_gate"},
    "Head": {"own_width"},
    "Switch": {"switched"},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_answers(name: str) -> None:
    kind = getattr(neuromod, name)()
    assert {p for p in PROPERTIES if getattr(kind, p)} == TRUE.get(name, set())


def test_fields_change_the_answers() -> None:
    assert Gate("hard").hard
    assert Rank1("hard").hard
    assert not Bernoulli(rescale=True).binary
    assert not Threshold(searched=0.5).binary
    assert Threshold(searched=0.5).is_mask
    assert Bernoulli(rescale=True).is_mask
    assert not Head(width=3).own_width


def test_factors_are_those_of_gates_alone() -> None:
    raw = {"code": torch.tensor([-1.0, 0.0, 2.0])}
    factor = Gate("hard").factor(raw)
    assert factor is not None
    assert factor.tolist() == [0.0, 1.0, 1.0]
    assert Threshold().factor(raw) is None


def test_a_kind_of_ones_own_has_the_quiet_answers() -> None:
    @dataclass(frozen=True)
    class Own(Kind):
        pass

    assert not any(getattr(Own(), p) for p in PROPERTIES)
    assert Own().factor({}) is None
