"""Where a norm is modulated: before it, after it, or behind its activation."""

import pytest
import torch
from torch import nn

from neuromod import Affine, Modulated, Modulator, RefusedError, Table, Target
from tasks.networks import ResNet, mlp
from tests.contract.laws import close

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def target() -> Target:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Target(mlp((12,), 5, (10, 8), norm="layer", bias=True).double(), X)


def test_a_norm_is_modulated_before_after_or_behind_its_activation() -> None:
    t = target()
    named = {p: [s.name for s in t.norms(placement=p)] for p in ("before", "after", "activation")}
    assert named == {"before": ["1", "4"], "after": ["2", "5"], "activation": ["3", "6"]}
    gain, bias = torch.rand(10, dtype=torch.float64), torch.rand(10, dtype=torch.float64)
    layers = list(t.pristine)
    for i, placement in enumerate(named):
        model = Modulated(t, Modulator(Affine(), Table(None), t.norms("2", placement=placement), seed=0))
        row = model.modulators["affine"].source.rows["all"]
        with torch.no_grad():
            row.get_parameter(f"{i + 1}/gain").copy_(gain)
            row.get_parameter(f"{i + 1}/bias").copy_(bias)
        h = X
        for j, layer in enumerate(layers):
            h = layer(h)
            h = gain * h + bias if j == i + 1 else h
        close(model(X), h)


def test_a_placement_that_is_not_there() -> None:
    t = target()
    with pytest.raises(RefusedError, match=r"got 'behind'; try 'before'"):
        t.norms(placement="behind")
    net = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 3)).double()
    plain = Target(net, X)
    with pytest.raises(RefusedError, match="no module puts out what it reads"):
        plain.norms(placement="before")
    with pytest.raises(RefusedError, match="no activation module reads it"):
        plain.norms(placement="activation")
    dropped = nn.Sequential(nn.Linear(12, 8), nn.LayerNorm(8), nn.Dropout(), nn.ReLU()).double()
    with pytest.raises(RefusedError, match="no activation module reads it"):
        Target(dropped, X).norms(placement="activation")
    relu = nn.ReLU()
    shared = Target(nn.Sequential(nn.Linear(12, 8), nn.LayerNorm(8), relu, nn.LayerNorm(8), relu).double(), X)
    with pytest.raises(RefusedError, match=r"'1' and '3' share '2'"):
        shared.norms(placement="activation")


def test_norms_of_a_residual_network_are_fed_by_convolutions() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        t = Target(ResNet((3, 8, 8), 5, depth=8, width=4), torch.randn(2, 3, 8, 8))
    before = t.norms(placement="before")
    assert len(before) == len(t.norms())
    assert all(isinstance(t.pristine.get_submodule(s.name), nn.Conv2d) for s in before)
    assert [s.shape for s in before] == [s.shape for s in t.norms()]
