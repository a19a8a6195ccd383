"""Traps of masks: weights that grow back, layouts, ties, seeds."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neuromod import Bernoulli, Kind, LowRankDelta, Modulated, Modulator, Table, Target, Threshold, TopK
from neuromod.kinds.surrogates import top_k
from tasks.networks import conv
from tests.traps.common import IDS, close, draw, filled, masks, moved


@pytest.mark.parametrize("kind", [Threshold(), TopK(density=0.4)])
def test_a_weight_that_is_masked_out_can_grow_back(kind: Kind) -> None:
    x = draw(6, 6)
    net = filled(nn.Sequential(nn.Linear(6, 5)))
    target = Target(net, x)
    model = Modulated(target, Modulator(kind, Table(1), target.weights("*"), seed=0))
    (score,) = model.parameters()
    weight = model.edits(task=0)["0.weight"].detach().requires_grad_()
    out = draw(6, 5, seed=2)
    (dense,) = torch.autograd.grad((F.linear(x, weight, net[0].bias) * out).sum(), weight)
    (model(x, task=0) * out).sum().backward()
    off = weight == 0
    assert 0 < int(off.sum()) < off.numel()
    sign = score.detach().sign() if isinstance(kind, TopK) else 1.0
    close(score.grad, dense * net[0].weight.detach() * sign)  # type: ignore[arg-type]
    assert float(score.grad[off].abs().min()) > 0  # type: ignore[index]


def test_scores_in_channels_last() -> None:
    x = draw(6, 2, 8, 8)
    target = Target(filled(conv((2, 8, 8), 5, (4, 6))), x)
    for kind in (Threshold(), TopK(density=0.3), Bernoulli(rescale=True), LowRankDelta()):
        model = moved(Modulated(target, Modulator(kind, Table(3), target.weights("*"), seed=0)))
        expected = model(x, task=IDS) if not isinstance(kind, Bernoulli) else model.eval()(x, task=IDS)
        last = copy.deepcopy(model)
        for parameter in last.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
                assert not parameter.is_contiguous()
        close(last(x.contiguous(memory_format=torch.channels_last), task=IDS), expected)
        last.seal(1)
        close(last.eval()(x, task=IDS), model.eval()(x, task=IDS))


def test_ties_are_broken_by_position_and_zeros_of_either_sign_are_equal() -> None:
    scores = torch.tensor([0.0, -0.0, 1.0, -1.0, -0.0, 0.0, 1.0])
    assert top_k(scores, 2).tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert top_k(scores, 5).tolist() == [1, 1, 1, 1, 0, 0, 1]
    assert top_k(torch.zeros(2, 3), 4).tolist() == [[1, 1, 1], [1, 0, 0]]


def test_weights_and_scores_of_one_seed_are_not_related() -> None:
    net = nn.Sequential(nn.Linear(50, 40, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.rand(40, 50, generator=torch.Generator().manual_seed(0)) - 0.5)
    target = Target(net, torch.randn(2, 50, generator=torch.Generator().manual_seed(1)))
    drawn = [next(model.parameters()) for model in (masks(target, 0), masks(target, 1))]
    drawn += [p for k, p in masks(target, 0, tasks=2).named_parameters() if ".rows.1." in k]
    flat = torch.stack([net[0].weight.detach().flatten(), *(p.detach().flatten() for p in drawn)])
    related = torch.corrcoef(flat) - torch.eye(len(flat))
    assert float(related.abs().max()) < 0.1  # 4.5 standard deviations of 2,000 pairs
    assert torch.equal(drawn[0], next(masks(target, 0).parameters()))
