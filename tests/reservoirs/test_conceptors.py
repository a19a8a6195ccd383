"""The algebra of conceptors against its definitions, and patterns that are loaded and recalled."""

import math

import pytest
import torch
from torch import Tensor

from neuromod import Affine, Conceptor, Modulated, Modulator, RefusedError, Table, Target, give
from neuromod.reservoirs import (
    Reservoir,
    conceptor,
    conjunction,
    correlation,
    diagonal,
    disjunction,
    driven,
    fit,
    load,
    morph,
    negation,
    nrmse,
    of_correlation,
    quota,
    unroll,
    upper,
    with_aperture,
)
from tests.reservoirs import slow

RNG = torch.Generator().manual_seed(7)
EYE = torch.eye(4, dtype=torch.float64)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> None:
    assert a.shape == b.shape
    assert float((a - b).abs().max()) < tol


A, B = (conceptor(randn(30, 4), aperture) for aperture in (0.7, 1.5))


def test_a_conceptor_is_what_its_equation_says() -> None:
    x = randn(2, 15, 4)
    close(conceptor(x, 3.0), slow.conceptor(x.flatten(0, 1), 3.0))
    close(correlation(x), x.flatten(0, 1).T @ x.flatten(0, 1) / 30)
    values = torch.linalg.svdvals(conceptor(x, 3.0))
    assert float(values.min()) > 0
    assert float(values.max()) < 1


def test_the_scalar_of_the_report() -> None:
    """R = .5, aperture 10: .5 / (.5 + .01) = .980392."""
    half = torch.tensor([[0.5]], dtype=torch.float64)
    assert float(of_correlation(half, 10)) == pytest.approx(0.980392, abs=5e-7)


def test_it_minimises_what_it_is_defined_by() -> None:
    x, aperture = randn(200, 4), 2.0

    def cost(c: Tensor) -> Tensor:
        return (x - x @ c.T).square().sum(1).mean() + aperture**-2 * c.square().sum()

    c = conceptor(x, aperture).requires_grad_()
    (gradient,) = torch.autograd.grad(cost(c), c)
    assert float(gradient.abs().max()) < 1e-12


def test_not_and_or() -> None:
    close(negation(A), EYE - A)
    close(negation(negation(A)), A)
    close(conjunction(A, B), torch.linalg.inv(torch.linalg.inv(A) + torch.linalg.inv(B) - EYE))
    close(disjunction(A, B), negation(conjunction(negation(A), negation(B))))
    close(conjunction(A, B), conjunction(B, A))
    # De Morgan, and the neutral elements.
    close(negation(disjunction(A, B)), conjunction(negation(A), negation(B)), 1e-8)
    close(conjunction(A, EYE), A, 1e-8)
    close(disjunction(A, 0 * EYE), A, 1e-8)
    close(conjunction(A, 0 * EYE), 0 * EYE)


def test_of_hard_projections_they_are_those_of_subspaces() -> None:
    one, two, three = (
        torch.diag(torch.tensor(d, dtype=torch.float64)) for d in ([1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 0])
    )
    close(conjunction(one, two), torch.diag(torch.tensor([0, 1, 0, 0], dtype=torch.float64)))
    close(disjunction(one, two), three)


def test_or_is_the_conceptor_of_both_sets_of_states() -> None:
    """R_(A or B) = R_A + R_B (the report, section 3.9)."""
    x, y = randn(30, 4), randn(20, 4)
    both = of_correlation(correlation(x) + correlation(y), 1.3)
    close(disjunction(conceptor(x, 1.3), conceptor(y, 1.3)), both, 1e-8)


def test_aperture_quota_and_morph() -> None:
    x = randn(30, 4)
    close(with_aperture(conceptor(x, 0.7), 3.0), conceptor(x, 2.1))
    close(with_aperture(A, 2.0), A @ torch.linalg.inv(A + 2.0**-2 * (EYE - A)))
    assert quota(A) == pytest.approx(float(A.trace()) / 4)
    assert quota(EYE) == 1
    close(morph(A, B, 0.25), 0.75 * A + 0.25 * B)
    close(morph(A, B, 0), A)


def test_a_diagonal_conceptor_is_a_gain_for_each_unit() -> None:
    x = randn(50, 4)
    gains = diagonal(x, 2.0)
    power = [sum(float(v) ** 2 for v in x[:, i]) / 50 for i in range(4)]
    assert gains.tolist() == pytest.approx([r / (r + 0.25) for r in power])
    net = Reservoir(4, bias_scale=0.2)
    target = Target(net, net.example())
    full = Modulated(target, Modulator(Conceptor(), Table(1), target.outputs("state")))
    gain = Modulated(target, Modulator(Affine(), Table(1), target.outputs("state")))
    give(*full.named_modulators().values(), 0, {"half": upper(torch.diag(gains))})
    give(*gain.named_modulators().values(), 0, {"gain": gains})
    u, start = net.example()
    close(full(u, start, task=0).detach(), gain(u, start, task=0).detach())


def test_two_patterns_over_one_frozen_reservoir() -> None:
    """W is computed once; then the conceptor of a pattern, and nothing else, says which is played."""
    t = torch.arange(900, dtype=torch.float64)
    patterns = torch.stack([torch.sin(2 * math.pi * t / period) for period in (8.83, 5.17)])[..., None]
    raw = Reservoir(60, radius=1.5, input_scale=1.5, bias_scale=0.5, seed=0)
    net = load(raw, patterns, washout=200, ridge=1e-4)
    assert not torch.equal(net.recurrent.weight, raw.recurrent.weight)
    _, x, p = driven(raw, patterns, 200)
    readout = fit(x, p, ridge=1e-2)
    target = Target(net, net.example())
    model = Modulated(target, Modulator(Conceptor(), Table(2), target.outputs("state")))
    for task in range(2):
        give(*model.named_modulators().values(), task, {"half": upper(conceptor(x[task], 10.0))})
    # The one after the other inside one sequence: the state of the first is the start of the second.
    order = torch.tensor([0] * 300 + [1] * 300)
    said = readout(unroll(model, torch.zeros(1, 600, 1), task=order, start=x[:1, -1]))[0].detach()
    with torch.no_grad():
        free = readout(net(torch.zeros(1, 600, 1).double(), x[:1, -1]))[0]
    for task, steps in enumerate((slice(200, 300), slice(500, 600))):
        assert aligned(said[steps], p[task]) < 0.15
    # Without a conceptor it goes on with the pattern that it starts in.
    assert aligned(free[500:600], p[1]) > 0.5
    target.verify()


def aligned(said: Tensor, pattern: Tensor) -> float:
    """NRMSE at the best shift."""
    return min(nrmse(said, pattern[k : k + len(said)]) for k in range(100))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: conceptor(randn(5, 3), 0), "aperture must be"),
        (lambda: conceptor(torch.full((5, 3), torch.nan), 1), "finite"),
        (lambda: conceptor(torch.ones(3), 1), "made of states"),
        (lambda: negation(2 * EYE), "from 0 to 1; got 2 to 2"),
        (lambda: negation((1 + 1e-3) * EYE.float()), "from 0 to 1; got 1 to 1"),
        (lambda: of_correlation(-EYE, 1.0), "no negative eigenvalue; got -1"),
        (lambda: negation(randn(3, 3)), "symmetric"),
        (lambda: conjunction(A, EYE[:3, :3]), "of one reservoir"),
        (lambda: with_aperture(A, -1), "factor of an aperture"),
        (lambda: load(Reservoir(5), torch.zeros(1, 50, 1), washout=50), "leave none"),
        (lambda: load(Reservoir(5, leak=0.5), torch.zeros(1, 50, 1), washout=5), "without leak"),
        (lambda: load(Reservoir(5), torch.zeros(1, 50, 1), washout=5, ridge=-1), "ridge must be"),
    ],
)
def test_a_mistake_gets_one_line(made: object, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        made()  # type: ignore[operator]
    assert "\n" not in str(refused.value)


def few(*units: int) -> Tensor:
    """States that move in some directions of twelve alone."""
    turned, _ = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    return randn(50, len(units)) @ turned[:, list(units)].T


def test_conceptors_of_a_float32_row_have_the_same_algebra() -> None:
    a, b = conceptor(few(0, 1, 2, 3), 2.0), conceptor(few(2, 3, 4, 5, 6), 2.0)
    assert float(torch.linalg.eigvalsh(a.float().double())[0]) < -1e-8
    for made in (conjunction, disjunction):
        torch.testing.assert_close(made(a.float(), b.float()), made(a, b), rtol=0, atol=1e-4)
    torch.testing.assert_close(with_aperture(a.float(), 2.0), with_aperture(a, 2.0), rtol=0, atol=1e-4)
    assert quota(a.float()) == pytest.approx(quota(a), abs=1e-6)


def test_conceptors_that_are_all_but_projections_stay_conceptors() -> None:
    hard = conceptor(1e3 * few(0, 1, 2, 3), 1e3)
    for made in (conjunction, disjunction):
        torch.testing.assert_close(made(hard, hard), hard, rtol=0, atol=1e-3)


def test_apertures_at_the_ends_of_floats_are_taken() -> None:
    x = randn(50, 4)
    assert float(conceptor(x, 1e-200).abs().max()) < 1e-300
    assert float(diagonal(x, 1e-200).abs().max()) < 1e-300
    torch.testing.assert_close(conceptor(x, 1e200), torch.eye(4, dtype=torch.float64))
    assert float(with_aperture(conceptor(x, 1.0), 1e-200).abs().max()) < 1e-300
