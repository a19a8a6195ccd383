"""Tasks that train side by side move as each of them does alone."""

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Bernoulli,
    Head,
    LowRank,
    Modulated,
    Modulator,
    Recipe,
    RefusedError,
    Statistics,
    Table,
    Target,
    Threshold,
    Together,
    TopK,
)
from tasks.networks import mlp

OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9, weight_decay=1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2),
    "adam": lambda p: torch.optim.AdamW(p, lr=1e-2),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(norm: str = "layer") -> Modulated:
    recipe = Recipe(mlp, {"shape": (6,), "outputs": 5, "hidden": (8, 4), "norm": norm}, init="kaiming_normal", seed=3)
    net = recipe.build().double()
    batch = norm == "batch"
    target = Target(net, draw(4, 6), norm="batch" if batch else "frozen")
    parts = [
        Modulator(Threshold(), Table(3), target.weights("1.weight"), seed=1),
        Modulator(TopK(0.4), Table(3), target.weights("4.weight"), seed=2),
        Modulator(Affine(), Table(3), target.norms(), seed=3),
        Modulator(Head(), Table(3), target.head(), seed=4),
    ]
    if batch:
        parts.append(Modulator(Statistics(), Table(3), target.statistics(), seed=5))
    return Modulated(target, *parts).train()


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_rows_move_as_they_do_alone(optimiser: str, norm: str) -> None:
    alone, together = model(norm), model(norm)
    order = [2, 0]
    side = Together(together, order)
    step = OPTIMISERS[optimiser](side.parameters())
    own = {task: [p for n, p in alone.named_parameters() if f".rows.{task}." in n] for task in order}
    single = {task: OPTIMISERS[optimiser](own[task]) for task in order}
    before = {name: p.detach().clone() for name, p in together.named_parameters()}
    for i in range(4):
        x, y = draw(2, 7, 6, seed=i), torch.randint(0, 5, (2, 7), generator=torch.Generator().manual_seed(i))
        outputs = side(x)
        losses = [nn.functional.cross_entropy(outputs[t], y[t]) for t in range(2)]
        step.zero_grad()
        sum(losses).backward()
        step.step()
        for place, task in enumerate(order):
            expected = alone(x[place], task=task)
            assert torch.allclose(outputs[place], expected, rtol=1e-12, atol=1e-12)
            single[task].zero_grad()
            nn.functional.cross_entropy(expected, y[place]).backward()
            single[task].step()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), together.parameters(), strict=True))
    side.release()
    assert any(not torch.equal(before[n], v) for n, v in together.named_parameters())
    for (name, a), b in zip(together.named_parameters(), alone.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12), name
        if ".rows.1." in name:
            assert torch.equal(a, before[name])


def test_the_target_and_the_mode_stay() -> None:
    network = model()
    side = Together(network, [0, 1])
    assert set(dict(side.named_parameters())) == {
        "rows.threshold.1/weight/score",
        "rows.topk.4/weight/score",
        *(f"rows.affine.{site}/{part}" for site in (2, 5) for part in ("gain", "bias")),
        "rows.head.7/weight/weight",
    }
    side(draw(2, 3, 6)).sum().backward()
    network.target.verify()


def test_what_cannot_train_side_by_side() -> None:
    network = model()
    with pytest.raises(RefusedError, match="task ids are distinct; got 0 twice"):
        Together(network, [0, 0])
    with pytest.raises(RefusedError, match=r"task 7 is not; call add\(7\) first"):
        Together(network, [0, 7])
    with pytest.raises(RefusedError, match=r"leading axis of 2 tasks; got \(3, 4, 6\)"):
        Together(network, [0, 1])(draw(3, 4, 6))
    network.seal(1)
    with pytest.raises(RefusedError, match="task 1 is not"):
        Together(network, [0, 1])
    target = network.target
    for kind, source in ((Bernoulli(), Table(2)), (Threshold(), LowRank(2, tasks=2)), (Threshold(), Table(None))):
        shared = Modulated(target, Modulator(kind, source, target.weights("1.weight"), seed=0))
        with pytest.raises(RefusedError, match=r"rows of its own and no noise; .* does not; train them in turn"):
            Together(shared, [0, 1])
    heads = Modulator(Head(), Table(1), target.head(), seed=0)
    wide = Modulated(target, heads)
    heads.add(1, width=3)
    with pytest.raises(RefusedError, match="heads of other widths"):
        Together(wide, [0, 1])


def test_one_task_is_a_batch_of_its_own() -> None:
    m, x = model(), draw(1, 4, 6)
    torch.testing.assert_close(Together(m, [1])(x)[0], m(x[0], task=1))
