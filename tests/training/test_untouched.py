"""Rows of other tasks stand still under every optimiser, whichever way gradients are cleared."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Gate, Hypernet, Modulated, Modulator, Table, Target
from neuromod.training.untouched import skip_untouched
from tests.refusals import refuses

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
TARGET = Target(nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3)), X)
OPTIMISERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3),
    "AdamW, one by one": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3, foreach=False),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5),
}
BATCHES: tuple[Any, ...] = (0, 1, [0, 0, 2, 2], 1, 3, [3, 1, 3, 1], 0, 2)


def trained(kind: Any, *, to_none: bool, skip: bool) -> list[dict[str, Tensor]]:
    """All parameters after each step; task 3 joins in the middle."""
    gates = Modulator(Gate("doubled"), Hypernet(tasks=4, hidden=4), TARGET.outputs("0"), seed=0)
    model = Modulated(TARGET, Modulator(Affine("uniform"), Table(3), TARGET.norms(), seed=0), gates)
    optimizer = kind(model.parameters())
    handle = skip_untouched(optimizer) if skip else None
    after = []
    for task in BATCHES:
        if task == 3:
            optimizer.add_param_group({"params": model.modulators["affine"].add(3)})
        optimizer.zero_grad(set_to_none=to_none)
        model(X, task=task).square().sum().backward()
        optimizer.step()
        after.append({name: p.detach().clone() for name, p in model.named_parameters()})
    if handle is not None:
        handle.remove()
    return after


@pytest.mark.parametrize("name", OPTIMISERS)
def test_others_stand_still_as_if_their_gradients_were_none(name: str) -> None:
    wanted = trained(OPTIMISERS[name], to_none=True, skip=False)
    found = trained(OPTIMISERS[name], to_none=False, skip=True)
    for step, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], value) for key, value in b.items()), step
    # Zeros move them where nothing is done about it, or this would be a test of nothing.
    moved = trained(OPTIMISERS[name], to_none=False, skip=False)
    assert not all(torch.equal(moved[-1][key], value) for key, value in wanted[-1].items())


def test_a_gradient_by_hand_counts_and_a_zero_of_the_batch_too() -> None:
    one, two, three = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = torch.optim.SGD([one, two, three], lr=0.1, weight_decay=1.0)
    skip_untouched(optimizer)
    for _ in range(2):
        (one * 0).sum().backward()
        two.grad, three.grad = torch.full((2,), 0.5), torch.zeros(2)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    assert torch.allclose(one.detach(), torch.full((2,), 0.81))
    assert torch.allclose(two.detach(), torch.full((2,), 0.715))
    assert torch.equal(three.detach(), torch.ones(2))


@pytest.mark.parametrize("wrong", [None, "Adam", torch.optim.SGD, torch.optim.LBFGS([nn.Parameter(torch.ones(1))])])
def test_what_is_no_such_optimiser(wrong: Any) -> None:
    with refuses("step after a backward", "got", "set_to_none=True"):
        skip_untouched(wrong)
