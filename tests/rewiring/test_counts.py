"""How many wires a layer gets: the published counts, to the wire."""

import math

import pytest

from neuromod import RefusedError, Site
from neuromod.rewiring import wire_counts

LENET = tuple(Site(n, "weight", s, n) for n, s in (("a", (300, 784)), ("b", (100, 300)), ("c", (10, 100))))
KEPT = {
    0.5: (102101, 30000, 1000),
    0.8: (38160, 14081, 1000),
    0.9: (18715, 6906, 1000),
    0.95: (9052, 3341, 919),
    0.98: (3621, 1337, 368),
    0.99: (1811, 669, 184),
}


def wide_resnet() -> tuple[Site, ...]:
    """The weights of WRN-22-2 for ten classes."""
    shapes, widths = {"conv1": (16, 3, 3, 3)}, (16, 32, 64, 128)
    for stage in range(3):
        before, after = widths[stage], widths[stage + 1]
        shapes[f"skip{stage + 2}"] = (after, before, 1, 1)
        for block in range(3):
            shapes[f"stage{stage + 2}.{block}.first"] = (after, before if block == 0 else after, 3, 3)
            shapes[f"stage{stage + 2}.{block}.second"] = (after, after, 3, 3)
    shapes["logits"] = (10, 128)  # type: ignore[assignment]
    return tuple(Site(name, "weight", shape, name) for name, shape in shapes.items())


@pytest.mark.parametrize("sparsity", KEPT)
@pytest.mark.parametrize("scope", ["er", "erk"])  # one for matrices
def test_erk_of_lenet(sparsity: float, scope: str) -> None:
    assert tuple(wire_counts(LENET, 1 - sparsity, scope).values()) == KEPT[sparsity]


@pytest.mark.parametrize("sparsity", KEPT)
def test_a_density_is_as_good_as_one_minus_the_sparsity(sparsity: float) -> None:
    assert tuple(wire_counts(LENET, round(1 - sparsity, 2), "erk").values()) == KEPT[sparsity]


def test_erk_of_wide_resnet_22_2() -> None:
    sites = wide_resnet()
    assert sum(math.prod(site.shape) for site in sites) == 1_076_912
    counts = wire_counts(sites, 0.1, "erk")
    dense = {"conv1": 432, "skip2": 512, "skip3": 2048, "logits": 1280}
    assert {name: counts[name] for name in dense} == dense
    others = {"skip4": 6973, "stage2.0.first": 1941, "stage2.1.first": 2516, "stage3.0.first": 3666}
    others |= {"stage3.2.second": 4816, "stage4.0.first": 7116, "stage4.2.first": 9416}
    assert {name: counts[name] for name in others} == others
    assert sum(counts.values()) == 107_708
    counts = wire_counts(sites, 0.2, "erk")
    assert (sum(counts.values()), counts["stage4.2.first"], counts["skip4"]) == (215_405, 19_810, 8_192)


def test_a_first_layer_outside_of_the_budget_leaves_less_for_the_others() -> None:
    counts = wire_counts(wide_resnet()[1:], 0.1, "erk")
    assert (sum(counts.values()), counts["stage4.1.first"]) == (107_670, 9_452)


def test_er_is_blind_to_the_kernel() -> None:
    er, erk = (wire_counts(wide_resnet(), 0.1, scope) for scope in ("er", "erk"))
    # (n_in + n_out) / (n_in n_out) of a 1 x 1 convolution and of a 3 x 3 one is the same density.
    sizes = {site.name: math.prod(site.shape) for site in wide_resnet()}
    assert er["skip4"] / sizes["skip4"] == pytest.approx(er["stage4.0.first"] / sizes["stage4.0.first"], abs=1e-3)
    assert erk["skip4"] / sizes["skip4"] > 5 * erk["stage4.0.first"] / sizes["stage4.0.first"]


def test_layers_of_one_shape_become_dense_together() -> None:
    twins = tuple(Site(n, "weight", s, n) for n, s in (("a", (4, 4)), ("b", (4, 4)), ("c", (100, 100))))
    counts = wire_counts(twins, 0.05, "erk")
    assert counts["a"] == counts["b"] == 16


def test_uniform_and_given_counts() -> None:
    assert wire_counts(LENET, 0.02, "uniform") == {"a": 4704, "b": 600, "c": 20}
    assert wire_counts(LENET, 0.5, {"a": 0.01, "b": 0.1, "c": 1.0}) == {"a": 2352, "b": 3000, "c": 1000}


@pytest.mark.parametrize(
    ("density", "scope", "words"),
    [
        (1e-6, "uniform", "at least one wire; density 1e-06 leaves 'a', of 235200 places, none; raise density"),
        (0.0, "erk", "density, the share of places that have a wire, must be a finite number above 0"),
        (0.1, "erdos", "scope must be one of"),
        (0.1, {"a": 0.1, "b": 0.1}, "'c' is missing"),
        (0.1, {"a": 0.1, "b": 0.1, "c": 1, "d": 1}, "'d' is none; nearest"),
        (0.1, {"a": 0.1, "b": 0.1, "c": 1e-9}, "leaves 'c'"),
    ],
)
def test_refused_counts(density: float, scope: object, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        wire_counts(LENET, density, scope)  # type: ignore[arg-type]
