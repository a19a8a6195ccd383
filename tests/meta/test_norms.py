"""Norms under second order and vmap: the traps as they are, and that none is left."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad

from neuromod import RefusedError
from neuromod.meta import BatchNorm, Functional, InstanceNorm, LayerNorm, check_exact, exact
from tests.meta.nets import draw, filled

SHAPES = {"batch": (6, 2, 6, 6), "instance": (6, 2, 6, 6), "layer": (6, 4)}


def network(kind: str) -> nn.Module:
    """A norm between layers that learn: the gradient that goes wrong is the one through it, to the layer before."""
    conv, after = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3)
    return filled(
        {
            "batch": nn.Sequential(conv, nn.BatchNorm2d(3, track_running_stats=False), nn.Tanh(), after),
            "instance": nn.Sequential(conv, nn.InstanceNorm2d(3, affine=True), nn.Tanh(), after),
            "layer": nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3)),
        }[kind]
    )


def outer(net: nn.Module, x: Tensor, *, side_by_side: bool) -> Tensor:
    """The gradient, by autograd, of the summed losses of two tasks after one inner step each."""
    tensors = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}

    def loss(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(net, tensors, (x,)).sin().square().mean()

    def task(x: Tensor) -> Tensor:
        gradients = grad(loss)(tensors, x)
        return loss({n: w - 0.5 * gradients[n] for n, w in tensors.items()}, x.cos())

    losses = torch.vmap(task)(x) if side_by_side else torch.stack([task(part) for part in x])
    return torch.cat([g.flatten() for g in torch.autograd.grad(losses.sum(), list(tensors.values()))])


@pytest.mark.parametrize("kind", SHAPES)
def test_an_exact_norm_is_the_fused_one_and_right_under_vmap(kind: str) -> None:
    fused, x = network(kind), draw(2, *SHAPES[kind])
    made = exact(fused)
    assert torch.allclose(made(x[0]), fused(x[0]), rtol=1e-12, atol=1e-12)
    assert {n: p.shape for n, p in made.named_parameters()} == {n: p.shape for n, p in fused.named_parameters()}
    reference = outer(fused, x, side_by_side=False)
    for side_by_side in (False, True):
        assert torch.allclose(outer(made, x, side_by_side=side_by_side), reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_fused_norm_is_still_wrong_under_vmap(kind: str) -> None:
    """Where this fails the trap is gone, and `check_exact` may let fused norms pass."""
    fused, x = network(kind), draw(2, *SHAPES[kind])
    error = (outer(fused, x, side_by_side=True) - outer(fused, x, side_by_side=False)).abs().max()
    assert error > 1e-6


def test_norms_are_found_wherever_they_are() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.InstanceNorm2d(4, affine=True)), nn.GroupNorm(2, 4)
    )
    with pytest.raises(RefusedError, match=r"1 is a BatchNorm2d; pass neuromod\.meta\.exact"):
        check_exact(net)
    with pytest.raises(RefusedError, match="BatchNorm2d"):
        Functional(net, "*")
    made = exact(net)
    check_exact(made)
    assert [type(m).__name__ for m in made.modules()][2:] == ["BatchNorm", "Sequential", "InstanceNorm", "GroupNorm"]
    assert type(net[1]) is nn.BatchNorm2d
    assert {n for n, _ in made.named_parameters()} == {n for n, _ in net.named_parameters()}
    net.eval()
    kept = exact(net)
    assert type(kept[1]) is nn.BatchNorm2d  # running statistics in evaluation mode are constants
    Functional(kept, "*")


def test_a_norm_that_stands_in_two_places_stays_one() -> None:
    norm = nn.LayerNorm(4)
    net = nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 4), norm)
    made = exact(net)
    check_exact(made)
    assert made[1] is made[3] is not norm
    assert [n for n, _ in made.named_parameters()] == [n for n, _ in net.named_parameters()]


def test_exact_norms_normalise() -> None:
    x = draw(8, 3, 4, 4) * 3 + 1
    assert torch.allclose(BatchNorm(3).double()(x), F.batch_norm(x, None, None, training=True))
    assert torch.allclose(InstanceNorm(3).double()(x), F.instance_norm(x))
    assert torch.allclose(LayerNorm((4, 4), affine=False)(x), F.layer_norm(x, (4, 4)))
    assert not list(LayerNorm(4, affine=False).parameters())
