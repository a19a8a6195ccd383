"""Masks of more than two values: their equations by hand, their gradients, and what they refuse."""

import pytest
import torch
from torch import nn

from neuromod import Coats, Modulated, Modulator, RefusedError, Signed, Table, Target
from neuromod.kinds.surrogates import ternary
from neuromod.training.give import give


def made(kind: Signed | Coats, score: list[float]) -> tuple[Modulated, nn.Linear]:
    net = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    target = Target(net, torch.ones(2, 4))
    modulator = Modulator(kind, Table(1), target.weights("*"))
    model = Modulated(target, modulator)
    give(modulator, 0, {"score": torch.tensor([score])})
    return model, net


def test_signs_and_zeros_by_hand() -> None:
    # fan_in 4: the threshold of at=1 is 1/2, and a score that lies on it counts.
    model, _ = made(Signed(at=1.0), [0.5, -0.5, 0.49, -2.0])
    assert model.edits(task=0)["weight"].tolist() == [[1.0, -2.0, 0.0, -4.0]]
    model(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]), task=0).sum().backward()
    (score,) = model.parameters()
    assert score.grad is not None
    assert score.grad.tolist() == [[1.0, 20.0, 300.0, 4000.0]]


def test_coats_by_hand() -> None:
    model, _ = made(Coats((0.75, 0.5, 0.25)), [0.1, -0.4, 0.3, 0.2])
    assert model.edits(task=0)["weight"].tolist() == [[0.0, 6.0, 6.0, 4.0]]
    model(torch.ones(1, 4), task=0).sum().backward()
    (score,) = model.parameters()
    assert score.grad is not None
    assert score.grad.tolist() == [[1.0, -2.0, 3.0, 4.0]]  # once, with the sign of the score


def test_ternary_under_vmap_and_its_gradient() -> None:
    score = torch.tensor([[-1.0, 0.2], [0.5, -0.1]], requires_grad=True)
    mask = torch.vmap(lambda s: ternary(s, 0.5))(score)
    assert mask.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    mask.mul(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert score.grad is not None
    assert score.grad.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_identity_of_signs() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    target, x = Target(net, torch.ones(2, 5)), torch.randn(3, 5)
    model = Modulated(target, Modulator(Signed(), Table(1), target.weights("*"), identity=True))
    assert torch.equal(model(x, task=0), net(x))


def test_what_is_refused() -> None:
    with pytest.raises(RefusedError, match="at, the threshold of a signed mask"):
        Signed(at=0)
    for wrong, said in (((), "one or more"), ((0.2, 0.5), "sort them"), ((0.5, 0.5), "each once"), ((1.5,), "density")):
        with pytest.raises(RefusedError, match=said):
            Coats(wrong)
    with pytest.raises(RefusedError, match="one or more"):
        Coats("half")
