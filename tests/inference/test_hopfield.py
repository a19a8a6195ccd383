"""HopSupSup's memory and recall against loops and a step by hand."""

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Gate, Modulated, Modulator, RefusedError, Table, Target
from neuromod.inference import Hopfield, gated_logits, pattern, recall

UNITS = (6, 5)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def patterns(count: int, size: int) -> Tensor:
    return torch.where(draw(count, size, seed=5) >= 0, 1.0, -1.0).double()


def remembering(*stored: Tensor) -> Hopfield:
    memory = Hopfield(len(stored[0]), like=stored[0])
    for z in stored:
        memory.store(z)
    return memory


X = draw(7, 4)


def gates(tasks: int = 3) -> Modulated:
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for seed, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed))
    target = Target(net, X)
    return Modulated(target, Modulator(Gate("hard", spread=0.5), Table(tasks), target.outputs(nn.Tanh), seed=0)).eval()


# ---- the memory --------------------------------------------------------------------------------------------------------


def test_storkeys_rule_and_the_energy_are_those_of_loops() -> None:
    d, stored = 9, patterns(3, 9)
    memory = remembering(*stored)
    psi = [[0.0] * d for _ in range(d)]
    for z in stored.tolist():
        h = [sum(psi[i][j] * z[j] for j in range(d)) for i in range(d)]
        change = [[(z[i] * z[j] - (i == j) - z[i] * h[j] - h[i] * z[j]) / d for j in range(d)] for i in range(d)]
        psi = [[psi[i][j] + change[i][j] for j in range(d)] for i in range(d)]
    torch.testing.assert_close(memory.psi, torch.tensor(psi, dtype=torch.float64))
    z = draw(d, seed=3)
    slow = -sum(float(z[i]) * psi[i][j] * float(z[j]) for i in range(d) for j in range(d)) / 2
    assert float(memory.energy(z)) == pytest.approx(slow)
    torch.testing.assert_close(memory.energy(stored), torch.stack([memory.energy(one) for one in stored]))
    torch.testing.assert_close(memory.mean(), sum(stored) / 3)


def test_stored_patterns_are_fixed_points_and_attract_what_is_near() -> None:
    stored = patterns(5, 200)
    memory = remembering(*stored)
    for number, z in enumerate(stored):
        assert torch.equal(torch.sign(memory.psi @ z), z)
        near = z.clone()
        near[:30] *= -1
        assert torch.equal(torch.sign(memory.psi @ torch.sign(memory.psi @ near)), z)
        assert memory.nearest(near) == number
        assert float(memory.agreement(near)[number]) == pytest.approx(170 / 200)


def test_bytes_are_a_triangle_and_a_bit_a_unit() -> None:
    memory = remembering(*patterns(3, 9))
    assert memory.bytes() == 45 * 8 + 3 * 2


# ---- recall ------------------------------------------------------------------------------------------------------------


def test_a_pattern_is_where_the_gates_of_a_task_are_open() -> None:
    model = gates()
    for task in model.tasks():
        z = pattern(model, task)
        assert z.shape == (sum(UNITS),)
        assert 0 < int((z > 0).sum()) < sum(UNITS)
        torch.testing.assert_close(gated_logits(model, z, X), model(X, task=task))
    before = pattern(model, 1)
    model.seal(1)
    assert torch.equal(pattern(model, 1), before)


def by_hand(model: Modulated, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy and its gradient with respect to the gates' numbers, whose derivative is passed straight through."""
    net = model.target.pristine
    gate = (z >= 0).double().requires_grad_()
    hidden = torch.tanh(net[0](x)) * gate[: UNITS[0]]
    hidden = torch.tanh(net[2](hidden)) * gate[UNITS[0] :]
    p = torch.softmax(net[4](hidden), 1)
    entropy = -(p * p.log()).sum(1).mean()
    return entropy.detach(), torch.autograd.grad(entropy, gate)[0]


def test_recall_is_gradient_descent_on_entropy_then_on_energy() -> None:
    model, batches = gates(), [draw(7, 4, seed=s) for s in range(3)]
    memory, rate, gamma = Hopfield.of(model), 2.0, 0.3
    z = sum(pattern(model, task) for task in range(3)) / 3
    for t, x in enumerate(batches):
        _, gradient = by_hand(model, z, x)
        z = z - rate * (gradient * (1 - t / 3) - gamma * (t / 3) * memory.psi @ z)
    torch.testing.assert_close(recall(model, batches, memory, rate=rate, gamma=gamma), z)
    with torch.no_grad():
        torch.testing.assert_close(recall(model, batches, memory, rate=rate, gamma=gamma), z)


def test_the_first_step_is_of_entropy_alone_and_starts_where_it_is_told() -> None:
    model, start = gates(), draw(11, seed=9)
    found = recall(model, [X], Hopfield.of(model), rate=3.0, gamma=1e9, start=start)
    torch.testing.assert_close(found, start - 3.0 * by_hand(model, start, X)[1])


def test_no_parameter_is_touched() -> None:
    model = gates()
    recall(model, [X, X], Hopfield.of(model))
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- refusals ----------------------------------------------------------------------------------------------------------


def test_what_a_memory_refuses() -> None:
    memory = Hopfield(4)
    with pytest.raises(RefusedError, match=r"what was stored; got none"):
        memory.mean()
    with pytest.raises(RefusedError, match=r"shape \(4,\); got \(3,\)"):
        memory.store(torch.ones(3))
    with pytest.raises(RefusedError, match=r"-1 and 1 .*\[0.5"):
        memory.store(torch.full((4,), 0.5))
    memory.store(torch.ones(4), task=2)
    with pytest.raises(RefusedError, match=r"once; got task 2"):
        memory.store(torch.ones(4), task=2)
    with pytest.raises(RefusedError, match=r"at least one unit; got size=0"):
        Hopfield(0)


def test_what_recall_refuses() -> None:
    model = gates()
    memory = Hopfield.of(model)
    with pytest.raises(RefusedError, match=r"got no batch"):
        recall(model, [], memory)
    with pytest.raises(RefusedError, match=r"\(11,\); got \(3,\)"):
        gated_logits(model, torch.ones(3), X)
    target = model.target
    for kind, source in ((Gate("doubled"), Table(2)), (Affine(), Table(2)), (Gate("hard"), Table(None))):
        other = Modulated(target, Modulator(kind, source, target.outputs(nn.Tanh), seed=0))
        with pytest.raises(RefusedError, match=r"hard gates of tasks"):
            Hopfield.of(other)


def test_a_spread_starts_every_task_at_another_half_and_is_not_negative() -> None:
    model = gates(2)
    assert not torch.equal(pattern(model, 0), pattern(model, 1))
    assert all(bool((p.abs() <= 0.5).all()) for p in model.parameters())
    with pytest.raises(RefusedError, match=r"spread is 0 or more; got -1"):
        Gate("hard", spread=-1)
