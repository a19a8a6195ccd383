"""The bank against sums over the edits of its tasks."""

import math

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Bank,
    Bernoulli,
    Head,
    Hypernet,
    LowRankDelta,
    Modulated,
    Modulator,
    RefusedError,
    Table,
    Target,
    Threshold,
    TopK,
)
from neuromod.inference import entropy, one_shot
from neuromod.inference.factors import factorable, factors
from neuromod.inference.one_shot import gradients

TASKS = (3, 0, 4, 1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 5)).double()
    with torch.no_grad():
        for seed, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed))
    return net


def kinds(name: str, target: Target) -> list[Modulator]:
    first, every = target.weights("0.weight"), target.weights("*")
    return {
        "masks": lambda: [Modulator(Threshold(), Table(5), every, seed=1)],
        "top-k and affine": lambda: [
            Modulator(TopK(0.3), Table(5), every, seed=1),
            Modulator(Affine(init="uniform"), Table(5), target.norms(), seed=2),
        ],
        "mask under a delta": lambda: [
            Modulator(Threshold(), Table(5), every, seed=1),
            Modulator(LowRankDelta(2), Table(5), first, seed=2),
        ],
        "rescaled": lambda: [Modulator(Bernoulli(rescale=True), Table(5), every, seed=1)],
        "heads": lambda: [
            Modulator(Threshold(), Table(5), first, seed=1),
            Modulator(Head(), Table(5), target.head(), seed=2),
        ],
    }[name]()


PACKED = {
    "masks": {"0.weight", "3.weight"},
    "top-k and affine": {"0.weight", "3.weight"},
    "mask under a delta": {"3.weight"},
    "rescaled": set(),
    "heads": {"0.weight"},
}


def sealed(name: str) -> Modulated:
    target = Target(network(), draw(4, 6))
    model = Modulated(target, *kinds(name, target)).eval()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter += draw(*parameter.shape, seed=100 + seed) * 0.3
    for task in (4, 0, 1, 3, 2):
        model.seal(task)
    return model


def close(a: Tensor, b: Tensor) -> None:
    assert a.shape == b.shape
    assert float(b.abs().max()) > 1e-6
    assert float((a - b).abs().max()) <= 1e-9 * float(b.abs().max())


@pytest.mark.parametrize("name", PACKED)
def test_sums_over_tasks(name: str) -> None:
    model = sealed(name)
    bank = Bank(model, TASKS)
    assert set(bank._masks) == PACKED[name]
    E = [model.edits(task=task) for task in TASKS]
    alphas = draw(3, 4, seed=7)
    mean, mixed, one = bank.mean(), bank.superpose(alphas), bank.superpose(alphas[1])
    assert set(mean) == set(mixed) == set(E[0])
    for tensor in E[0]:
        close(mean[tensor], sum(e[tensor] for e in E) / 4)
        close(one[tensor], sum(alphas[1, i] * E[i][tensor] for i in range(4)))
        for b in range(3):
            close(mixed[tensor][b], sum(alphas[b, i] * E[i][tensor] for i in range(4)))
    G = {tensor: draw(2, *value.shape, seed=len(tensor)) for tensor, value in E[0].items()}
    expected = torch.stack([torch.stack([sum((G[t][b] * e[t]).sum() for t in G) for e in E]) for b in range(2)])
    close(bank.project(G), expected)
    close(bank.project({t: g[0] for t, g in G.items()}), expected[0])


@pytest.mark.parametrize("name", PACKED)
def test_a_bank_that_grew_is_the_bank(name: str) -> None:
    model = sealed(name)
    grown = Bank(model, TASKS[:1])
    grown.mean()
    grown.grow(TASKS[1:3])
    grown.grow(TASKS[3:])
    whole = Bank(model, TASKS)
    assert grown.tasks == whole.tasks == TASKS
    for tensor, value in whole.mean().items():
        assert torch.equal(grown.mean()[tensor], value)
    x = draw(3, 6, seed=9)
    close(one_shot(model, x, tasks=TASKS, bank=grown), one_shot(model, x, tasks=TASKS))


def test_live_and_sealed_tasks_score_alike() -> None:
    target = Target(network(), draw(4, 6))
    live = Modulated(target, *kinds("top-k and affine", target)).eval()
    x = draw(3, 6, seed=9)
    before = one_shot(live, x, tasks=range(5))
    for task in range(4):
        live.seal(task)
    close(one_shot(live, x, tasks=range(5)), before)
    live.seal(4)
    assert set(Bank(live)._masks) == PACKED["top-k and affine"]
    close(one_shot(live, x, tasks=range(5)), before)


def test_factors_of_linear_layers_give_the_scores_of_whole_gradients() -> None:
    model = sealed("masks")
    bank, x = Bank(model, TASKS), draw(5, 6, seed=9)
    mean, names = bank.mean(), ["0.weight", "3.weight"]
    assert factorable(bank, names)
    whole = gradients(model, x.unsqueeze(1), mean, names, entropy)
    for name, (a, d) in factors(bank, x, mean, names, entropy).items():
        close(d.unsqueeze(2) * a.unsqueeze(1), whole[name])
    close(one_shot(model, x, tasks=TASKS, bank=bank), -bank.project(whole))
    assert not model.skeleton.layer("0")._forward_hooks
    assert not factorable(Bank(sealed("mask under a delta"), TASKS), ["0.weight"])


def test_planes_round_the_gradient_only() -> None:
    model = sealed("masks")
    bank = Bank(model)
    G = {name: draw(*value.shape, seed=3) for name, value in bank.mean().items()}
    exact, rounded = bank.project(G), bank.project(G, planes=12)
    assert not torch.equal(exact, rounded)
    weight = model.target.tensors()
    bound = sum(float((G[n] * weight[n]).abs().max()) / (2**11 - 1) / 2 * G[n].numel() for n in G)
    assert float((exact - rounded).abs().max()) <= bound


def test_accounts() -> None:
    model = sealed("masks")
    bank = Bank(model)
    masks = [{n: (e != 0).double() for n, e in model.edits(task=t).items()} for t in bank.tasks]
    assert bank.bytes_per_task() == 48 // 8 + 40 // 8 + 8
    shares = [[float(m.mean()) for m in task.values()] for task in masks]
    sizes = [m.numel() for m in masks[0].values()]
    entropies = [
        sum(-n * (p * math.log2(p) + (1 - p) * math.log2(1 - p)) for p, n in zip(row, sizes, strict=True))
        for row in shares
    ]
    assert bank.entropy_bound() == pytest.approx(sum(entropies) / len(entropies) / 8)
    flat = torch.stack([torch.cat([m.flatten() for m in task.values()]) for task in masks])
    union = (flat[:, None] + flat[None] > 0).sum(-1)
    assert torch.allclose(bank.overlap().double(), (flat @ flat.T) / union)
    assert bank.bits("3.weight").shape == (5, 5)


def test_what_a_bank_refuses() -> None:
    model = sealed("masks")
    with pytest.raises(RefusedError, match="needs learned tasks; got none"):
        Bank(model, [])
    with pytest.raises(RefusedError, match="task ids are distinct; got 1 twice"):
        Bank(model, [1, 1])
    bank = Bank(model, [1, 2])
    with pytest.raises(RefusedError, match=r"holds a task once; got \[2\] beside 2 others"):
        bank.grow([2])
    with pytest.raises(RefusedError, match=r"a weight per task; got \(3,\) for 2 tasks"):
        bank.superpose(draw(3))
    with pytest.raises(RefusedError, match="holds 2, asked were 3, or in another order"):
        one_shot(model, draw(2, 6), tasks=[1, 2, 3], bank=bank)
    model.add(9)
    with pytest.raises(RefusedError, match=r"grows by sealed ones; got a live one; call model.seal\(task\) first"):
        bank.grow([9])
    with pytest.raises(RefusedError, match="the bank has none; seal tasks"):
        Bank(sealed("rescaled")).overlap()
    target = Target(network(), draw(4, 6))
    gate = Modulator(Affine(), Hypernet("input", hidden=2), target.norms(), seed=0)
    mask = Modulator(Threshold(), Table(2), target.weights("0.weight"), seed=0)
    with pytest.raises(RefusedError, match="edits are those of one row"):
        Bank(Modulated(target, mask, gate)).mean()
