"""Criteria, masks and gains as exact vectors, written down by hand from the equations."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuromod import RefusedError, Target
from neuromod.analysis import (
    chance_overlap,
    criterion,
    density,
    density_mask,
    distance,
    masked_weights,
    masks,
    near_zero,
    overlap,
    pruned_gammas,
    random_gammas,
    sign_agreement,
    signed_constant,
)
from neuromod.kinds import Subset
from tasks.networks import ResNet, vgg
from tests.refusals import refuses

INITIAL = torch.tensor([0.5, -1.0, 2.0, -0.25], dtype=torch.float64)
FINAL = torch.tensor([1.5, 0.5, 1.0, -0.75], dtype=torch.float64)
BALANCE = 3.75 / 3.75  # both have a mean magnitude of .9375

EXPECTED = {
    "large_final": [1.5, 0.5, 1.0, 0.75],
    "small_final": [-1.5, -0.5, -1.0, -0.75],
    "large_init": [0.5, 1.0, 2.0, 0.25],
    "small_init": [-0.5, -1.0, -2.0, -0.25],
    "large_init_large_final": [0.5, 0.5, 1.0, 0.25],
    "small_init_small_final": [-1.5, -1.0, -2.0, -0.75],
    "magnitude_increase": [1.0, -0.5, -1.0, 0.5],
    "movement": [1.0, 1.5, 1.0, 0.5],
    "large_final_same_sign": [1.5, 0.0, 1.0, 0.75],
    "magnitude_increase_same_sign": [1.0, 0.0, -1.0, 0.5],
    "movement_same_sign": [1.0, 0.0, 1.0, 0.5],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_criterion_is_its_equation(name: str) -> None:
    assert criterion(name)(INITIAL, FINAL).tolist() == pytest.approx(EXPECTED[name])


def test_a_balance_brings_both_magnitudes_to_one_mean() -> None:
    scores = criterion("large_init_large_final")(INITIAL, 4 * FINAL)
    assert scores.tolist() == pytest.approx(EXPECTED["large_init_large_final"])


def test_a_mask_keeps_the_largest_and_of_equals_the_first() -> None:
    scores = torch.tensor([[1.0, 3.0], [3.0, 0.0]])
    assert density_mask(scores, 0.25).tolist() == [[False, True], [False, False]]
    assert density_mask(scores, 0.5).tolist() == [[False, True], [True, False]]
    assert density_mask(scores, 0.0).sum() == 0
    assert density_mask(scores, 1.0).all()
    with pytest.raises(RefusedError, match=r"density.*1\.5"):
        density_mask(scores, 1.5)


def test_a_density_may_differ_from_tensor_to_tensor() -> None:
    found = masks({"a": INITIAL, "b": INITIAL}, {"a": FINAL, "b": FINAL}, "large_final", {"a": 0.5, "b": 0.25})
    assert found["a"].tolist() == [True, False, True, False]
    assert found["b"].tolist() == [True, False, False, False]
    assert density(found) == {"a": 0.5, "b": 0.25}
    assert overlap({"a": found["a"]}, {"a": found["b"]}) == 0.5
    assert masked_weights({"a": INITIAL}, {"a": found["a"]})["a"].tolist() == [0.5, 0.0, 2.0, 0.0]


def test_an_unknown_criterion_is_answered_with_the_nearest() -> None:
    with pytest.raises(RefusedError, match="large_final"):
        criterion("large_finl")


def test_distance_and_signs_are_those_of_each_tensor() -> None:
    assert distance({"a": INITIAL}, {"a": FINAL})["a"] == pytest.approx(
        ((1 + 2.25 + 1 + 0.25) / (0.25 + 1 + 4 + 0.0625)) ** 0.5
    )
    assert sign_agreement({"a": INITIAL}, {"a": FINAL}) == {"a": 0.75}
    with pytest.raises(RefusedError, match="'a' is missing"):
        distance({"a": INITIAL}, {"a": FINAL[:2]})


def test_independent_masks_overlap_as_their_densities_say() -> None:
    half, quarter = torch.tensor([1.0, 1, 0, 0]), torch.tensor([[0.0, 0, 1, 0]])
    assert chance_overlap({"a": half}, {"a": half}) == pytest.approx(1 / 3)
    # sum n d e = 4 (.25) + 4 (.0625); sum n (d + e - d e) = 4 (.75) + 4 (.4375)
    both = {"a": half, "b": quarter}
    assert chance_overlap(both, both) == pytest.approx(1.25 / 4.75)
    assert chance_overlap({"a": half * 0}, {"a": half * 0}) == 1.0
    one, other = torch.rand(2, 100_000, generator=torch.Generator().manual_seed(0)) < torch.tensor([[0.3], [0.6]])
    drawn = overlap({"a": one}, {"a": other})
    assert chance_overlap({"a": one}, {"a": other}) == pytest.approx(drawn, abs=0.005)


def test_a_signed_constant_has_the_deviation_of_the_weights() -> None:
    spread = float(((INITIAL - INITIAL.mean()) ** 2).mean().sqrt())
    assert signed_constant({"a": INITIAL})["a"].tolist() == pytest.approx([spread, -spread, spread, -spread])


def test_small_gains_are_pruned_and_as_many_others_at_random() -> None:
    gammas = {"a": torch.tensor([0.005, -0.5, -0.009]), "b": torch.tensor([0.01, 2.0])}
    assert near_zero(gammas) == {"a": pytest.approx(2 / 3), "b": 0.0}
    assert pruned_gammas(gammas)["a"].tolist() == pytest.approx([0.0, -0.5, 0.0])
    assert pruned_gammas(gammas)["b"].tolist() == pytest.approx([0.01, 2.0])
    other = random_gammas(gammas, 2, torch.Generator().manual_seed(0))
    assert sum(int((g == 0).sum()) for g in other.values()) == 2
    assert all(torch.equal(g[g != 0], gammas[k][g != 0]) for k, g in other.items())
    with pytest.raises(RefusedError, match=r"0\.\.5"):
        random_gammas(gammas, 6, torch.Generator())


@pytest.mark.parametrize("wrong", [None, 3, [INITIAL], {0: INITIAL}, {"a": 1.0}, {"a": INITIAL.to(torch.complex64)}])
def test_what_is_no_dict_of_real_tensors_is_one_line(wrong: Any) -> None:
    right, rng = {"a": INITIAL}, torch.Generator()
    for attempt in (
        lambda: distance(wrong, right),
        lambda: distance(right, wrong),
        lambda: sign_agreement(right, wrong),
        lambda: density(wrong),
        lambda: overlap(right, wrong),
        lambda: chance_overlap(wrong, right),
        lambda: masked_weights(wrong, right),
        lambda: masked_weights(right, wrong),
        lambda: signed_constant(wrong),
        lambda: pruned_gammas(wrong),
        lambda: near_zero(wrong),
        lambda: random_gammas(wrong, 0, rng),
        lambda: masks(right, wrong, "movement", 0.5),
    ):
        with refuses("must be", "got"):
            attempt()


def test_wrong_weights_shares_and_generators_are_one_line() -> None:
    right = {"a": INITIAL, "b": INITIAL}
    with refuses("initial and final weights have one shape; got (4,) and (2,)"):
        criterion("movement_same_sign")(INITIAL, INITIAL[:2])
    with refuses("final weights must be a tensor with real floats"):
        criterion("large_final")(INITIAL, INITIAL.long())
    with refuses("density is one number, or one for each tensor by name; got none for 'b'"):
        masks(right, right, "movement", {"a": 0.5})
    with refuses("density, the share kept,", "nan"):
        density_mask(INITIAL, float("nan"))
    with refuses("scores must be a tensor of real numbers; got None"):
        density_mask(None, 0.5)
    with refuses("below must be a finite number of 0 or more; got -1"):
        near_zero(right, -1)
    with refuses("rng must be a generator on the CPU; got 0"):
        random_gammas(right, 1, 0)
    # Integers of numpy are counts, and bools and integers are masks and scores.
    assert density(random_gammas(right, np.int64(8), torch.Generator())) == {"a": 0.0, "b": 0.0}
    assert density_mask(torch.tensor([1, 3, 2]), 1 / 3).tolist() == [False, True, False]


# Published counts (Frankle et al. 2021, table 1; derived again from the architecture)

COUNTS = {14: (175_258, 1_120), 20: (272_474, 1_568), 32: (466_906, 2_464), 56: (855_770, 4_256)}
COUNTS |= {110: (1_730_714, 8_288), 218: (3_480_602, 16_352), 434: (6_980_378, 32_480), 866: (13_979_930, 64_736)}
WIDE = {2: (696_618, 2_240), 4: (None, 4_480), 8: (None, 8_960), 16: (None, 17_920), 32: (None, 35_840)}


def counted(**options: int) -> tuple[int, int]:
    with torch.device("meta"):
        net = ResNet((3, 32, 32), 10, **options)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    return sum(p.numel() for p in net.parameters()), sum(p.numel() for m in norms for p in m.parameters())


@pytest.mark.parametrize("depth", COUNTS)
def test_resnets_have_the_published_numbers_of_batchnorm_parameters(depth: int) -> None:
    assert counted(depth=depth) == COUNTS[depth]


@pytest.mark.parametrize("width", WIDE)
def test_wide_resnets_have_the_published_numbers_of_batchnorm_parameters(width: int) -> None:
    total, norms = counted(depth=14, width=16 * width)
    assert norms == WIDE[width][1]
    assert WIDE[width][0] in (None, total)


def test_the_small_vggs_have_the_published_sizes() -> None:
    def size(depth: int, width: int = 64) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in vgg((3, 32, 32), 10, depth, width).parameters())

    assert [round(size(depth) / 1e6, 1) for depth in (2, 4, 6)] == [4.3, 2.4, 2.3]
    # Half the width has, of Conv-2, as many weights as a mask of density .5 keeps, to 1.2 %.
    assert size(2, 32) == 2_175_328
    assert abs(size(2, 32) / (size(2) / 2) - 1) < 0.012
    with pytest.raises(ValueError, match="got 3"):
        vgg((3, 32, 32), 10, 3)


# The control of Frankle et al.


def targeted() -> tuple[Target, Tensor]:
    net = nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False)).double()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Target(net, x), x


def test_a_subset_replaces_its_places_and_no_others() -> None:
    target, _ = targeted()
    (site, _), kind = target.weights("*"), Subset(per_output=2, seed=3)
    places = kind.places(site)
    assert len(places) == len(places.unique()) == 8
    now = target.tensors()
    values = torch.arange(8, dtype=torch.float64)
    made = kind.edits(site, kind.constants(site) | {"values": values}, now)[site.name].flatten()
    rest = torch.ones(24, dtype=torch.bool)
    rest[places] = False
    assert torch.equal(made[places], values)
    assert torch.equal(made[rest], now[site.name].flatten()[rest])
    identity = kind.identity(site, now)
    assert identity is not None
    assert torch.equal(kind.edits(site, kind.constants(site) | identity, now)[site.name], now[site.name])
    assert not torch.equal(places, Subset(per_output=2, seed=4).places(site))


def test_a_subset_has_at_most_all_weights() -> None:
    target, _ = targeted()
    site = target.weights("*")[0]
    assert Subset(per_output=1000).shapes(site) == {"values": (24,)}
    with pytest.raises(RefusedError, match="per_output must be a finite number above 0; got 0"):
        Subset(per_output=0)
