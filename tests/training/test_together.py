"""Tasks that train side by side move as each of them does alone."""

from collections.abc import Callable
from typing import Any

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
    calibrate,
)
from tasks.networks import mlp
from tests.refusals import refuses

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


def test_evaluation_is_by_the_statistics_of_each_task() -> None:
    m, x = model("batch"), draw(2, 7, 6)
    side = Together(m, [2, 0]).eval()
    assert not m.training
    with refuses("statistics are measured before use; task 2 has none", "calibrate(model, 2, data)"):
        side(x)
    calibrate(m, 2, x[0])
    with refuses("task 0 has none"):
        side(x)
    calibrate(m, 0, 3 * x[1] + 1)
    for place, task in enumerate((2, 0)):
        torch.testing.assert_close(side(x)[place], m(x[place], task=task))
    m.seal(0), m.seal(2)
    torch.testing.assert_close(side(x)[1], m(x[1], task=0), msg="statistics at rest")
    side.train()
    assert m.training
    with refuses("a task must be live to be trained; task 2 is not"):
        side.release()


def test_making_one_leaves_what_the_model_keeps() -> None:
    m = model().eval()
    m.cache(0)
    assert not Together(m, [0, 1]).training
    assert set(m._cached) == {0}


class Net(nn.Module):
    """A network of one layer and an end that is passed, or an RNN in front of it."""

    def __init__(self, end: Callable[[nn.Module, Tensor], Tensor], rnn: type[nn.RNNBase] | None = None) -> None:
        super().__init__()
        self.end, self.layer = end, nn.Linear(6, 3)
        self.rnn = None if rnn is None else rnn(6, 6, batch_first=True)
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self, self.layer(x if self.rnn is None else self.rnn(x)[0]).mean(1))


def plain(net: nn.Module, y: Tensor) -> Tensor:
    return y


def asks(net: nn.Module, y: Tensor) -> Tensor:
    return y if y.abs().max().item() < 1e9 else -y


def branches(net: nn.Module, y: Tensor) -> Tensor:
    return y if y.abs().max() < 1e9 else -y


def writes(net: nn.Module, y: Tensor) -> Tensor:
    net.seen.copy_(y.detach().mean(0))
    return y


def side_of(net: nn.Module) -> tuple[Modulated, Tensor]:
    target = Target(net, torch.randn(4, 5, 6))
    weights = target.weights("layer.weight")
    return Modulated(target, Modulator(Threshold(), Table(2), weights, seed=0)), torch.randn(2, 4, 5, 6)


@pytest.mark.parametrize("rnn", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_do_not_train_side_by_side(rnn: type[nn.RNNBase]) -> None:
    m, x = side_of(Net(plain, rnn))
    with refuses("torch.vmap can't run it", rnn.__name__.lower(), "train them in turn"):
        Together(m, [0, 1])
    m(x[0], task=0)


@pytest.mark.parametrize(("end", "said"), [(asks, ".item()"), (branches, "RuntimeError"), (writes, "inplace")])
def test_what_a_network_does_that_vmap_does_not_take(end: Callable[[nn.Module, Tensor], Tensor], said: str) -> None:
    m, x = side_of(Net(end))
    before = m(x[0], task=0)
    with refuses("torch.vmap can't run it", said, "train them in turn"):
        Together(m, [0, 1])
    assert torch.equal(m(x[0], task=0), before)


@pytest.mark.parametrize("wrong", [None, 3, "x", torch.tensor(1.0), torch.randn(4, 5, 6), [torch.randn(4, 5, 6)] * 2])
def test_inputs_without_an_axis_of_tasks(wrong: Any) -> None:
    m, _ = side_of(Net(plain))
    with refuses("inputs have a leading axis of 2 tasks; got", "stack theirs"):
        Together(m, [0, 1])(wrong)
    with refuses("does not run so on these inputs", "pass (tasks, batch, ...)"):
        Together(m, [0, 1])(torch.randn(2, 4, 5, 7))
