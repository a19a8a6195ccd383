"""Whether rows differ between conditions."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Generated,
    Hypernet,
    Kind,
    LowRankDelta,
    Mixture,
    Modulated,
    Modulator,
    RefusedError,
    Source,
    Table,
    Target,
    Threshold,
    TopK,
    row_spread,
)
from tests.refusals import refuses

CONDITIONS = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))


def made(kind: Kind, source: Source) -> Modulator:
    """A modulator of a small network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    target = Target(net, torch.ones(2, 6))
    sites = target.outputs(nn.Linear) if "output" in kind.roles else target.weights("*")
    modulator = Modulator(kind, source, sites)
    Modulated(target, modulator)
    return modulator


def moved(modulator: Modulator, size: float = 0.3) -> Modulator:
    """The same with parameters away from their start."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in modulator.parameters():
            parameter += size * torch.randn(parameter.shape, generator=rng)
    return modulator


KINDS = [Affine(), LowRankDelta(2), Threshold(), TopK(0.5)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("reads", ["task", "condition"])
def test_a_start_has_equal_rows_and_is_told_of_and_one_that_moved_is_not(kind: Kind, reads: str) -> None:
    source = Hypernet("task", 5) if reads == "task" else Hypernet("condition", embedding=4)
    asked: Any = range(5) if reads == "task" else CONDITIONS
    modulator = made(kind, source)
    with pytest.warns(
        RuntimeWarning, match=rf"rows differ between conditions; those of {modulator.name} .* below 0\.001"
    ) as told:
        assert set(row_spread(modulator, asked).values()) == {0.0}
    assert (told[0].filename, "\n" in str(told[0].message)) == (__file__, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert min(row_spread(moved(modulator), asked).values()) > 0.02


def test_a_hypernetwork_that_moved_and_does_not_see_the_condition_has_collapsed() -> None:
    modulator = moved(made(Affine(), Hypernet("condition", embedding=4)))
    with torch.no_grad():
        modulator.source.body[1].bias.fill_(-100.0)  # every unit is dead
    with pytest.warns(RuntimeWarning):
        assert max(row_spread(modulator, CONDITIONS).values()) < 1e-12


def test_the_number_is_that_of_its_equation() -> None:
    """By hand, of a table of gains and biases whose start is 1 and 0."""
    modulator = moved(made(Affine(), Table(5)))
    for site in modulator.sites:
        rows = [{k: v.detach() for k, v in modulator.source.own(task).items()} for task in range(5)]
        each = torch.stack([torch.cat([row[f"{site.label}/gain"], row[f"{site.label}/bias"]]) for row in rows]).double()
        start = torch.cat([torch.ones(site.shape), torch.zeros(site.shape)])
        expected = (each - each.mean(0)).square().sum() / (each - start).square().sum()
        assert row_spread(modulator, range(5))[site.name] == pytest.approx(float(expected), abs=1e-6)


def test_scores_of_one_mask_are_one_row_and_so_are_factors_of_one_product() -> None:
    masks, deltas = made(Threshold(), Table(2)), made(LowRankDelta(2), Table(2))
    with torch.no_grad():
        for key, score in masks.source.own(0).items():
            score.copy_(-masks.start("offset")[key])
            masks.source.own(1)[key].copy_(3 * score)
        for key, value in deltas.source.own(0).items():
            value.copy_(torch.ones_like(value))
            deltas.source.own(1)[key].copy_(value * (2 if key.endswith("/a") else 0.5))
    for modulator in (masks, deltas):
        with pytest.warns(RuntimeWarning):
            assert max(row_spread(modulator, [0, 1]).values()) == 0


def test_live_and_sealed_rows_are_compared_and_labels_and_experts_are_taken() -> None:
    table = moved(made(Threshold(), Table(3)))
    live = row_spread(table, range(3))
    table.seal(1)
    assert row_spread(table, range(3)) == live
    assert min(row_spread(moved(made(Affine(), Hypernet("condition", labels=3))), torch.arange(3)).values()) > 0.02
    assert row_spread(moved(made(Generated(), Mixture(2, "task", tasks=3))), range(3)).keys() == {
        "0.weight",
        "2.weight",
    }


def test_the_mode_is_put_back() -> None:
    body = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.9))
    modulator = moved(made(Affine(), Hypernet("condition", embedding=4, body=body))).train()
    assert row_spread(modulator, CONDITIONS) == row_spread(modulator, CONDITIONS)
    assert modulator.training
    assert body.training


def free() -> Modulator:
    return Modulator(Affine(), Table(2), Target(nn.Sequential(nn.Linear(3, 2)), torch.ones(2, 3)).outputs("*"))


@pytest.mark.parametrize(
    ("source", "conditions", "parts"),
    [
        (Table(3), [0], ("rows differ between two conditions at least; got one",)),
        (Table(3), [0, 0], ("task ids are distinct", "0 twice")),
        (Table(3), [0, 7], ("a task must be known; got task 7",)),
        (Table(3), 2, ("task ids come in a list; got 2",)),
        (Hypernet("condition", embedding=4), torch.ones(3, 4), ("at least; got one",)),
        (Hypernet("condition", embedding=4), torch.ones(3, 5), ("a condition is (4)", "got (3, 5)")),
        (Hypernet("condition", embedding=4), [1.0, 2.0], ("conditions come in a tensor", "got [1.0, 2.0]")),
        (Hypernet("condition", embedding=4), torch.ones(2, 4) * torch.nan, ("finite",)),
        (Hypernet("condition", labels=3), torch.tensor([0, 5]), ("a label lies in 0..2; got 5",)),
        (Hypernet("input"), torch.ones(2, 6), ("by task or by condition; Affine reads 'input'",)),
    ],
)
def test_what_has_no_spread(source: Source, conditions: Any, parts: tuple[str, ...]) -> None:
    with refuses(*parts):
        row_spread(made(Affine(), source), conditions)


def test_a_modulator_on_no_target_and_a_wrong_least() -> None:
    with refuses("rows once it is on a target; pass it to Modulated"):
        row_spread(free(), [0, 1])
    with refuses("whose rows are compared must be a Modulator"):
        row_spread(Tensor(), [0, 1])  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="least, the share below which rows do not differ"):
        row_spread(made(Affine(), Table(2)), [0, 1], least=2.0)
