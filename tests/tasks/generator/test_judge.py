"""The distance of features by numbers worked out by hand."""

import pytest
import torch

from tasks.generator.judge import frechet


def test_frechet_of_normal_distributions_that_commute() -> None:
    """``|m - m'|^2 + sum (s - s')^2`` along common axes."""
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    scale, shift = torch.tensor([2.0, 0.5, 1.0]), torch.tensor([1.0, 0.0, -2.0])
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x * scale + shift) == pytest.approx(1 + 4 + 1 + 0.25, abs=1e-9)
    assert frechet(x * scale + shift, x) == pytest.approx(1 + 4 + 1 + 0.25, abs=1e-9)


def test_frechet_of_axes_that_do_not_commute() -> None:
    """Beside the square root of the product itself, by its eigenvalues."""
    rng = torch.Generator().manual_seed(1)
    one, other = (torch.randn(50, 4, generator=rng).double() @ torch.randn(4, 4, generator=rng).double() for _ in "ab")
    a, b = torch.cov(one.T), torch.cov(other.T)
    root = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()
    expected = (one.mean(0) - other.mean(0)).square().sum() + a.trace() + b.trace() - 2 * root
    assert frechet(one, other) == pytest.approx(float(expected), rel=1e-9)
