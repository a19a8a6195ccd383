"""Masks that are searched in part: which places, what of the rest, and how little of it is kept."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from neuromod import (
    Bernoulli,
    Coats,
    Kind,
    LowRank,
    Modulated,
    Modulator,
    RefusedError,
    Signed,
    Table,
    Target,
    Threshold,
    TopK,
    from_pretrained,
    save_pretrained,
)
from neuromod.target.sites import Site

KINDS = {
    "threshold": Threshold(searched=0.3, seed=1),
    "piggyback": Threshold(at=5e-3, strict=True, constant=1e-2, searched=0.3),
    "topk": TopK(density=0.4, searched=0.3, seed=1),
    "bernoulli": Bernoulli(searched=0.3),
    "signed": Signed(searched=0.3),
    "coats": Coats((0.5, 0.25), searched=0.3),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10))


def model(kind: Kind, tasks: int = 2, net: nn.Module | None = None) -> Modulated:
    target = Target(net or network(), torch.randn(4, 30))
    return Modulated(target, Modulator(kind, Table(tasks), target.weights("*"), seed=5))


def masks(made: Modulated, task: int) -> dict[str, torch.Tensor]:
    before = made.target.tensors()
    return {name: value / before[name] for name, value in made.edits(task=task).items()}


def site(made: Modulated) -> Site:
    return next(iter(made.named_modulators().values())).sites[0]


@pytest.mark.parametrize("name", KINDS)
def test_a_place_that_is_not_searched_never_changes(name: str) -> None:
    made = model(KINDS[name])
    constants = KINDS[name].constants(site(made))
    places, held = constants["places"], constants["held"]
    assert len(places) == round(0.3 * 600) == len(places.unique())
    frozen = torch.ones(600, dtype=torch.bool)
    frozen[places] = False
    assert not held[places].any()
    for task in (0, 1):
        own = masks(made, task)["0.weight"].flatten()
        assert torch.equal(own[frozen].round().to(torch.int8), held[frozen])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape))
    moved = masks(made, 0)["0.weight"].flatten()
    assert torch.equal(moved[frozen].round().to(torch.int8), held[frozen])
    assert len(moved[places].unique()) > 1


@pytest.mark.parametrize("name", KINDS)
def test_only_searched_places_have_numbers_a_gradient_and_bits(name: str) -> None:
    made = model(KINDS[name])
    assert [p.shape for p in made.parameters()] == [(180,), (60,)] * 2
    made(torch.randn(6, 30), task=0).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for n, p in made.named_parameters() if ".rows.0." in n)
    bits = {"signed": 1.6, "coats": 1.6}.get(name, 1.0)
    assert made.bytes_per_task(0) == pytest.approx(240 * bits / 8, abs=2)
    before = made.eval()(torch.ones(3, 30), task=0)
    made.seal(0)
    assert torch.equal(made(torch.ones(3, 30), task=0), before)


def test_what_is_frozen_is_as_a_start_would_be() -> None:
    threshold, topk, coats = KINDS["threshold"], KINDS["topk"], KINDS["coats"]
    place = site(model(threshold))
    assert 0.4 < threshold.constants(place)["held"].float().sum() / 420 < 0.6
    assert bool(KINDS["piggyback"].constants(place)["held"].sum() == 420)
    kept = masks(model(topk), 0)["0.weight"].round()
    assert int(kept.sum()) == round(0.4 * 600)
    counts = masks(model(coats), 0)["0.weight"].round()
    assert [int((counts >= c).sum()) for c in (1, 2)] == [300, 150]
    held = KINDS["signed"].constants(place)["held"]
    assert sorted(held.unique().tolist()) == [-1, 0, 1]


@pytest.mark.parametrize("locked", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", KINDS)
def test_frozen_places_may_be_locked_in_by_a_share(name: str, locked: float) -> None:
    kind = replace(KINDS[name], locked=locked)
    constants = kind.constants(site(model(kind)))
    assert int(constants["held"].sum()) == round(locked * 420)
    assert set(constants["held"].unique().tolist()) <= {0, 1}


def test_the_seed_draws_the_places_and_every_site_its_own() -> None:
    place = site(model(Threshold()))
    first, again, other = (Threshold(searched=0.5, seed=s).constants(place)["places"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    square = Target(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), torch.ones(2, 8))
    one, two = (Threshold(searched=0.5).constants(s)["places"] for s in square.weights("*"))
    assert not torch.equal(one, two)


def test_identity_is_refused_where_frozen_places_are_cut() -> None:
    net = network()
    target = Target(net, torch.ones(2, 30))
    for kind in (KINDS["threshold"], KINDS["topk"], KINDS["signed"]):
        with pytest.raises(RefusedError, match="no identity"):
            Modulated(target, Modulator(kind, Table(1), target.weights("*"), identity=True))
    for kind in (KINDS["piggyback"], TopK(density=1, searched=0.5)):
        made = Modulated(target, Modulator(kind, Table(1), target.weights("*"), identity=True))
        assert torch.equal(made(torch.ones(2, 30), task=0), target(torch.ones(2, 30)))


def test_a_seed_without_use_is_refused() -> None:
    with pytest.raises(RefusedError, match="searched=1 freezes none; got seed=3; drop it"):
        Threshold(seed=3)
    with pytest.raises(RefusedError, match=r"searched=1 freezes none; got locked=0\.5; drop it"):
        Threshold(locked=0.5)
    with pytest.raises(RefusedError, match="locked, the share of frozen places that is kept"):
        Threshold(searched=0.5, locked=2)
    for share in (0, 1.5, "half"):
        with pytest.raises(RefusedError, match="searched"):
            TopK(searched=share)  # type: ignore[arg-type]


@pytest.mark.parametrize("coding", ["raw", "smallest", "entropy"])
@pytest.mark.parametrize("name", KINDS)
def test_a_store_holds_them(name: str, coding: str, tmp_path: Path) -> None:
    made, x = model(KINDS[name]).eval(), torch.randn(5, 30)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    expected = [made(x, task=task) for task in (0, 1)]
    for task in (0, 1):
        made.seal(task)
    save_pretrained(made, tmp_path, coding=coding)
    again = from_pretrained(tmp_path, target=Target(network(), torch.randn(4, 30))).eval()
    assert all(torch.equal(again(x, task=task), expected[task]) for task in (0, 1))


def test_rows_of_a_shared_source_and_mixed_batches() -> None:
    target = Target(network(), torch.randn(4, 30))
    made = Modulated(target, Modulator(KINDS["signed"], LowRank(3, tasks=2), target.weights("*")))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    x, ids = torch.randn(6, 30), [0, 1, 0, 1, 1, 0]
    mixed = made(x, task=ids)
    for i, task in enumerate(ids):
        torch.testing.assert_close(mixed[i], made(x[i : i + 1], task=task)[0])
