"""The bound has the number of the facts, is the product without biases, and is never below what is seen."""

import math
import re
from typing import Any

import pytest
import torch

from neuromod import RefusedError
from neuromod.tickets import RandomMLP, certificate, measured_error, unit_ball
from tests.tickets import slow


def test_the_exact_vector() -> None:
    assert certificate((2, 1.5, 1), (0.01, 0.02, 0.03)) == pytest.approx(0.146856, abs=1e-12)


def test_a_larger_ball_scales_it() -> None:
    assert certificate((2, 1.5, 1), (0.01, 0.02, 0.03), radius=3) == pytest.approx(3 * 0.146856)


def test_biases_enter_as_the_recursion_says() -> None:
    s, e, b, d = (2.0, 0.5), (0.1, 0.2), (0.3, 0.4), (0.01, 0.02)
    first = e[0] * 1.0 + d[0]
    second = (s[1] + e[1]) * first + e[1] * (s[0] * 1.0 + b[0]) + d[1]
    assert certificate(s, e, biases=b, bias_errors=d) == pytest.approx(second)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("radius", [1.0, 4.0])
def test_nothing_that_is_seen_is_above_it(bias: bool, radius: float) -> None:
    for seed in range(3):
        target = slow.mlp(6, 9, 7, 3, bias=bias, seed=seed)
        network = RandomMLP((6, 9, 7, 3), n=8, spare=0, bias=bias, scale=2.0, seed=seed)
        ticket, model = network.find(target), network.model()
        ticket.put(model, 0)
        seen = measured_error(model, 0, target, unit_ball(2000, 6, radius=radius, seed=seed))
        assert 0 < seen < ticket.certificate(radius) < 200 * seen


def test_perturbed_weights_stay_below_it() -> None:
    rng = torch.Generator().manual_seed(0)
    weights = [torch.randn(b, a, generator=rng).double() / a**0.5 for a, b in ((5, 8), (8, 8), (8, 2))]
    noise = [torch.randn(w.shape, generator=rng).double() * 1e-3 for w in weights]
    seen = slow.furthest(weights, [w + d for w, d in zip(weights, noise, strict=True)], unit_ball(5000, 5))
    norms = [[float(torch.linalg.matrix_norm(m, ord=2)) for m in ms] for ms in (weights, noise)]
    assert seen < certificate(*norms)


def test_points_fill_the_ball() -> None:
    x = unit_ball(4000, 3, radius=2.0)
    lengths = x.norm(dim=1)
    assert lengths.max() < 2 + 1e-12
    assert torch.allclose(lengths[1::2], torch.tensor(2.0, dtype=torch.float64))
    assert float((lengths[::2] < 2 * 0.5 ** (1 / 3)).double().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(x.mean(0).abs().max()) < 0.1
    assert unit_ball(9, 4, nonnegative=True).min() >= 0
    assert torch.equal(unit_ball(5, 2, seed=3), unit_ball(5, 2, seed=3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"norms": ()}, "got 0 norms and 2 errors"),
        ({"errors": (1,)}, "got 2 norms and 1 errors, 0 and 0 of biases; pass as many of each"),
        ({"norms": (1, math.nan)}, "a norm of a certificate must be a finite number of 0 or more; got nan"),
        ({"errors": (1, -1)}, "a norm of a certificate must be a finite number of 0 or more; got -1"),
        ({"norms": 2.0}, "norms of a certificate come in a list, one for each layer; got 2.0"),
        ({"biases": (1,)}, "got 2 norms and 2 errors, 1 and 0 of biases"),
        ({"radius": 0}, "radius must be a finite number above 0; got 0"),
    ],
)
def test_wrong_numbers_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)):
        certificate(**{"norms": (1, 2), "errors": (0.1, 0.2), **wrong})


def test_an_error_is_that_of_the_target_at_finite_points() -> None:
    random = RandomMLP((3, 4, 2), n=8)
    model, target = random.model(), slow.mlp(3, 4, 2)
    random.find(target).put(model, 0)
    with pytest.raises(RefusedError, match="at finite points"):
        measured_error(model, 0, target, torch.full((2, 3), torch.nan))
    # One output would be spread over two, and an error come out of it.
    with pytest.raises(RefusedError, match=r"it gives \(5, 1\), the random network \(5, 2\)"):
        measured_error(model, 0, slow.mlp(3, 4, 1), unit_ball(5, 3))
