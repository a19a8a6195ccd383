"""The look-ahead is the step that the optimiser would take, and nothing is left of it."""

import copy

import pytest
import torch

from neuromod.training.regularise import ahead
from tests.training.regularise.common import OPTIMISERS, bits, held, loss_of, modulated, shared, slow_penalty


@pytest.mark.parametrize("warm", [0, 3])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_look_ahead_is_the_step_of_the_optimiser(name: str, warm: int) -> None:
    model = modulated("generated", "chunks")
    regulariser = held(model, 0, 1, lookahead=True)
    own = model.named_modulators()["generated"].source
    then = copy.deepcopy(own)
    optimizer = OPTIMISERS[name](p for p in model.parameters() if p.requires_grad)
    for step in range(warm):
        optimizer.zero_grad()
        loss_of(model, 2, step).backward()
        optimizer.step()
    optimizer.zero_grad()
    loss_of(model, 2, 9).backward()
    task_gradients = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}

    # Copy everything, take the step, subtract: the shared parameters move by a constant, and the codes stay.
    twin = copy.deepcopy(model)
    pairs = dict(twin.named_parameters())
    beside = OPTIMISERS[name](p for p in twin.parameters() if p.requires_grad)
    beside.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for n, gradient in task_gradients.items():
        pairs[n].grad = None if gradient is None else gradient.clone()
    beside.step()
    moved = twin.named_modulators()["generated"].source
    expected = slow_penalty(moved, then, [0, 1], 0.7)
    wanted = dict(zip(shared(moved), torch.autograd.grad(expected, list(shared(moved).values())), strict=True))

    before = bits(model, optimizer)
    assert regulariser.backward(optimizer) == pytest.approx(expected.item(), rel=1e-10)
    assert bits(model, optimizer) == before
    for n, parameter in shared(own).items():
        task = task_gradients[f"modulators.generated.source.{n}"]
        assert parameter.grad is not None
        assert task is not None
        assert torch.allclose(parameter.grad - task, wanted[n], rtol=1e-7, atol=1e-10), n
    with ahead(optimizer):
        pass
    assert bits(model, optimizer) == before


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_parameters_ahead_are_those_after_the_step_bit_for_bit(name: str) -> None:
    model = modulated()
    optimizer = OPTIMISERS[name](model.parameters())
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, 1, step).backward()
        with ahead(optimizer):
            inside = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer.step()
        assert all(torch.equal(p, inside[n]) for n, p in model.named_parameters())


def test_everything_is_put_back_when_something_fails_in_between() -> None:
    model = modulated()
    optimizer = OPTIMISERS["Adam"](model.parameters())
    loss_of(model, 1).backward()
    before = bits(model, optimizer)

    def fail() -> None:
        with ahead(optimizer):
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    assert bits(model, optimizer) == before


def test_without_look_ahead_the_first_step_of_a_task_is_free() -> None:
    model = modulated()
    optimizer = OPTIMISERS["Adam"](model.parameters())
    loss_of(model, 1).backward()
    assert held(copy.deepcopy(model), 0, lookahead=False).backward(optimizer) == 0.0
    assert held(model, 0, lookahead=True).backward(optimizer) > 0
