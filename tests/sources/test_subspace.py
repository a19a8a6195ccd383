"""Rows in a random subspace: the equation by hand, one vector over all sites, bytes of a task, and its way through a store."""

from pathlib import Path

import pytest
import torch
from torch import nn

from neuromod import (
    Affine,
    LowRankDelta,
    Modulated,
    Modulator,
    RefusedError,
    Subspace,
    Target,
    from_pretrained,
    save_pretrained,
)
from neuromod.sources.context import Context


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


def film(source: Subspace, net: nn.Module | None = None, **more: object) -> tuple[Modulated, Modulator]:
    target = Target(net or network(), torch.ones(2, 6))
    modulator = Modulator(Affine(), source, target.outputs(nn.Linear), seed=3, **more)  # type: ignore[arg-type]
    return Modulated(target, modulator), modulator


def test_each_number_is_one_of_the_vector_with_a_sign() -> None:
    _, modulator = film(Subspace(3))
    start = modulator(Context((), 0, tasks=(0,))).one()
    with torch.no_grad():
        modulator.source.own(0)["code"].copy_(torch.tensor([0.5, -2.0, 8.0]))
    row = modulator(Context((), 0, tasks=(0,))).one()
    moved = {key: row[key] - start[key] for key in row}
    spreads = {key: value.shape[-1] ** -0.5 for key, value in row.items()}  # of a start that is constant
    for key, value in moved.items():
        sizes = (value.abs() / spreads[key]).tolist()
        assert all(min(abs(size - z) for z in (0.5, 2.0, 8.0)) < 1e-5 for size in sizes)
    flat = torch.cat([value / spreads[key] for key, value in moved.items()])
    assert len(flat.round(decimals=4).unique()) == 6  # three sizes, both signs


def test_a_task_is_its_vector_alone_and_starts_at_the_target() -> None:
    model, modulator = film(Subspace(13, tasks=3))
    x = torch.randn(5, 6)
    assert torch.equal(model(x, task=0), model.target(x))
    assert [p.numel() for p in model.parameters()] == [13, 13, 13]
    assert model.bytes_per_task(1) == 52
    half, _ = film(Subspace(13), dtype=torch.bfloat16)
    assert half.bytes_per_task(0) == 26
    names = [name for name in model.state_dict() if "codes" not in name]
    assert sum(model.state_dict()[name].numel() for name in names if "fingerprint" not in name) <= 24 * 2
    assert modulator.source.arguments()["size"] == 13


def test_the_map_comes_from_the_seed() -> None:
    one, again = (film(Subspace(4))[0] for _ in range(2))
    other = Modulated(one.target, Modulator(Affine(), Subspace(4), one.target.outputs(nn.Linear), seed=4))
    for model in (one, again, other):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.arange(4.0))
    x = torch.randn(5, 6)
    assert torch.equal(one(x, task=0), again(x, task=0))
    assert not torch.allclose(one(x, task=0), other(x, task=0))


def test_low_rank_factors_are_learned_from_where_one_of_them_is_zero() -> None:
    target = Target(network(), torch.ones(2, 6))
    model = Modulated(target, Modulator(LowRankDelta(2), Subspace(5), target.weights("*")))
    (z,) = model.parameters()
    model(torch.randn(4, 6), task=0).square().sum().backward()
    assert z.grad is not None
    assert bool((z.grad != 0).all())


def test_a_sealed_row_and_a_store_say_the_same(tmp_path: Path) -> None:
    model, _ = film(Subspace(4, tasks=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    x = torch.randn(5, 6)
    expected = model.eval()(x, task=1)
    model.seal(0)
    model.seal(1)
    assert torch.equal(model(x, task=1), expected)
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path, target=Target(network(), torch.ones(2, 6))).eval()
    assert torch.equal(again(x, task=1), expected)


def test_a_condition_is_mapped_into_the_subspace() -> None:
    model, _ = film(Subspace(4, reads="condition", embedding=3, hidden=5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    x, c = torch.randn(2, 6), torch.randn(2, 3)
    both = model(x, condition=c)
    assert not torch.allclose(both[0], model.target(x)[0])
    torch.testing.assert_close(both[1:], model(x[1:], condition=c[1]))


def test_no_numbers_are_refused() -> None:
    with pytest.raises(RefusedError, match="size, the numbers of a subspace"):
        Subspace(0)
