"""What training must not move."""

import copy

import pytest
import torch

from neuromod import (
    Affine,
    LowRankDelta,
    Modulated,
    Modulator,
    Statistics,
    Table,
    Target,
    Threshold,
    calibrate,
)
from tasks.networks import conv, mlp
from tests.traps.common import IDS, draw, filled, moved


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_training_leaves_the_users_network_as_it_was(norm: str) -> None:
    net, x = filled(conv((2, 8, 8), 5, (4, 6))).train(), draw(6, 2, 8, 8)
    net[1].running_mean.copy_(draw(4, seed=3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    flags = {n: (m.training, m.__dict__.get("momentum")) for n, m in net.named_modules()}
    target = Target(net, x, norm=norm)  # type: ignore[arg-type]
    parts = [Modulator(Affine(), Table(3), target.norms(), seed=0)]
    if norm == "batch":
        parts.append(Modulator(Statistics(), Table(3), target.statistics(), seed=0))
    model = Modulated(target, *parts).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x, task=0).square().sum().backward()
        optimizer.step()
    for task in range(3) if norm == "batch" else ():
        calibrate(model, task, x + task)
    measured = {k: v.clone() for k, v in model.state_dict().items() if ".rows." in k}
    model.train()(x - 3, task=1)  # batch statistics: they update no buffer, not even a task's that stands in the net's
    assert all(torch.equal(measured[k], v) for k, v in model.state_dict().items() if k in measured)
    model.eval()(x, task=1)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert {n: (m.training, m.__dict__.get("momentum")) for n, m in net.named_modules()} == flags
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or hasattr(m, "tap_gain") for m in net.modules())
    target.verify()


def test_a_task_added_under_a_running_optimiser_moves_nobody_else() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), bias=True)), x)
    model = Modulated(target, Modulator(Threshold(), Table(3), target.weights("*"), seed=0)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)
    model(x, task=IDS).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    added = model.add(7)
    optimizer.add_param_group({"params": added})
    started = [p.detach().clone() for p in added]
    for _ in range(3):
        optimizer.zero_grad()
        model(x, task=7).square().sum().backward()
        optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(started, added, strict=True))
    assert all(torch.equal(v, before[k]) for k, v in model.named_parameters() if k in before)
    assert len(dict(model.named_parameters())) == len(before) + len(added)


def test_a_copy_shares_the_target_and_nothing_that_learns() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), bias=True)), x)
    model = Modulated(target, Modulator(LowRankDelta(), Table(3), target.weights("*"), seed=0)).eval()
    twin = copy.deepcopy(model)
    assert twin.target is model.target
    ours, theirs = ({k: v.data_ptr() for k, v in m.named_parameters()} for m in (model, twin))
    assert set(ours) == set(theirs)
    assert not set(ours.values()) & set(theirs.values())
    frozen, copied = (dict(m.skeleton.net.named_parameters()) for m in (model, twin))
    assert all(copied[k].data_ptr() == frozen[k].data_ptr() for k in frozen)  # no second copy of the weights
    expected = model(x, task=1)
    moved(twin)
    assert torch.equal(model(x, task=1), expected)
    assert not torch.equal(twin(x, task=1), expected)
