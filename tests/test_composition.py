"""Which modulators go together: names, seeds, and what refuses to share a tensor."""

import pytest
import torch
from torch import nn

from neuromod import Affine, Generated, Head, Hypernet, LowRankDelta, Modulated, Modulator, Table, Target, Threshold
from neuromod.composition import by_name, gathers
from tests.model_calls import made
from tests.refusals import refuses

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def target() -> Target:
    return Target(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)), X)


def test_a_second_one_of_a_kind_is_numbered() -> None:
    t = target()
    parts = [Modulator(Affine(), Table(1), t.outputs(nn.ReLU), seed=seed) for seed in (0, 1, 2)]
    assert list(by_name(parts)) == ["affine", "affine_2", "affine_3"]


def test_the_seed_is_0_unless_another_is_given() -> None:
    t = target()
    silent, said = (Modulator(Threshold(), Table(1), t.weights("*"), **o) for o in ({}, {"seed": 0}))  # type: ignore[arg-type]
    assert silent.seed == 0
    rows = [Modulated(t, m).state_dict() for m in (silent, said)]
    assert all(torch.equal(rows[0][key], rows[1][key]) for key in rows[0])


@pytest.mark.parametrize("second", [Table(1), Hypernet("input")], ids=["table", "hypernet"])
def test_two_of_one_kind_at_one_site_need_seeds_of_their_own(second: nn.Module) -> None:
    t = target()

    def both(seed: int, sites: str = "*") -> Modulated:
        first = Modulator(Threshold(), Table(1), t.weights("*"), seed=3)
        return Modulated(t, first, Modulator(Threshold(), second, t.weights(sites), seed=seed))  # type: ignore[arg-type]

    with refuses("seeds of their own", "'threshold' and 'threshold_2'", "seed=3 at '0.weight'", "pass seed=4"):
        both(3)
    with refuses("seed=3 at '2.weight'"):
        both(3, "2")
    both(4)


def test_two_of_one_kind_may_share_a_seed_at_other_sites() -> None:
    t = target()
    Modulated(t, Modulator(Threshold(), Table(1), t.weights("0")), Modulator(Threshold(), Table(1), t.weights("2")))
    Modulated(t, Modulator(Threshold(), Table(1), t.weights("*")), Modulator(Affine(), Table(1), t.outputs(nn.ReLU)))


def test_a_weight_that_is_written_later_is_not_gathered() -> None:
    t = target()
    gate, mask = (Modulator(Affine(), Table(1), t.outputs("1")), Modulator(Threshold(), Table(1), t.weights("*")))
    assert gathers(t, {"affine": gate, "threshold": mask}) == {"affine": True, "threshold": False}


def test_rows_that_are_composed_are_those_of_a_modulator() -> None:
    model = made(target())
    row = model.modulators["threshold"].source.own(0)
    assert set(model.compose({"threshold": row})) == set(model.edits(task=0))
    assert model.compose({}) == {}
    with refuses("the modulator of a row must be one of", "'threshld'", "'threshold'"):
        model.compose({"threshld": row})
    with refuses("a row is what its modulator's source gives", "pass rows(...)[name].one()"):
        model.compose({"threshold": {key: value[:2] for key, value in row.items()}})
    with refuses("the row of 'threshold' must be tensors", "got None for"):
        model.compose({"threshold": dict.fromkeys(row)})


def test_what_acts_on_a_head_of_its_own_width() -> None:
    t = target()
    head = Modulator(Head(), Table(2), t.head(), seed=0)
    with refuses("'head' and 'lowrankdelta' both write '2.weight'; exclude the site from one"):
        Modulated(t, head, Modulator(LowRankDelta(2), Table(2), t.weights("*"), seed=0))
    with refuses("'lowrankdelta' and 'generated' both write", "put the replacing one first, or exclude the site"):
        Modulated(
            t,
            Modulator(LowRankDelta(2), Table(2), t.weights("0"), seed=0),
            Modulator(Generated(), Table(2), t.weights("0"), seed=1),
        )
