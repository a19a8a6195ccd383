"""What a held source forgets, and what stands still while it learns."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from neuromod import (
    Modulated,
    OutputRegulariser,
    Source,
)
from tests.training.regularise.common import OPTIMISERS, SOURCES, bits, held, loss_of, modulated, shared


def learn(
    model: Modulated, regulariser: OutputRegulariser | None, task: int, steps: int = 40, name: str = "AdamW"
) -> torch.optim.Optimizer:
    optimizer = OPTIMISERS[name](p for p in model.parameters() if p.requires_grad)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, task, step).backward()
        if regulariser is not None:
            regulariser.backward(optimizer)
        optimizer.step()
    return optimizer


def drift(model: Modulated, before: dict[str, Tensor], task: int) -> float:
    after = model.edits(task=task)
    return sum((after[name] - value).square().sum().item() for name, value in before.items())


@pytest.mark.parametrize("source", SOURCES)
def test_a_strong_regulariser_keeps_old_rows_and_none_forgets_them(source: str) -> None:
    drifts, losses = {}, {}
    for beta in (0.0, 10.0):
        model = modulated("generated", source)
        regulariser = held(model, beta=beta, lookahead=True)
        learn(model, regulariser, 0)
        regulariser.hold(0)
        before = {name: value.detach().clone() for name, value in model.edits(task=0).items()}
        start = loss_of(model, 1, 500).item()
        learn(model, regulariser, 1)
        drifts[beta] = drift(model, before, 0)
        losses[beta] = loss_of(model, 1, 500).item() / start
    assert drifts[10.0] < 0.1 * drifts[0.0]
    assert all(ratio < 0.9 for ratio in losses.values())


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_codes_of_held_tasks_and_their_moments_stand_still(source: str, name: str) -> None:
    model = modulated("affine", source)
    codes = model.named_modulators()["affine"].source.codes.table
    optimizer = OPTIMISERS[name](model.parameters())  # made once, over all tasks, as a user may
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model, 0).backward()
        optimizer.step()
    regulariser = held(model, 0, lookahead=True)
    assert codes["0"].grad is None
    code, moments = codes["0"].detach().clone(), copy.deepcopy(optimizer.state[codes["0"]])
    other, shared_before = codes["1"].detach().clone(), [p.detach().clone() for p in shared(codes_of(model)).values()]
    for step in range(5):
        optimizer.zero_grad()
        loss_of(model, 1, step).backward()
        regulariser.backward(optimizer)
        optimizer.step()
    assert torch.equal(codes["0"], code)
    after = optimizer.state[codes["0"]]
    assert moments.keys() == after.keys()
    assert all(v == after[k] if not isinstance(v, Tensor) else torch.equal(v, after[k]) for k, v in moments.items())
    assert not torch.equal(codes["1"], other)
    assert all(not torch.equal(a, b) for a, b in zip(shared(codes_of(model)).values(), shared_before, strict=True))


def codes_of(model: Modulated) -> Source:
    return next(iter(model.named_modulators().values())).source


@pytest.mark.parametrize("options", [{}, {"stored": False}, {"sample": 1}, {"sample": 1, "stored": False}])
def test_a_resumed_run_goes_on_bit_for_bit(options: dict[str, Any]) -> None:
    def fresh() -> tuple[Modulated, OutputRegulariser]:
        model = modulated("generated", "chunks")
        return model, held(model, lookahead=True, **options)

    def go(model: Modulated, regulariser: OutputRegulariser, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            loss_of(model, 2, step).backward()
            regulariser.backward(optimizer)
            optimizer.step()

    model, regulariser = fresh()
    for task in (0, 1):
        learn(model, regulariser, task, steps=4)
        regulariser.hold(task)
    build = OPTIMISERS["Adam"]
    optimizer = build(p for p in model.parameters() if p.requires_grad)
    go(model, regulariser, optimizer, range(3))
    saved = copy.deepcopy((model.state_dict(), regulariser.state_dict(), optimizer.state_dict()))
    assert all(isinstance(value, Tensor) for value in saved[1].values())
    go(model, regulariser, optimizer, range(3, 8))

    twin, again = fresh()
    twin.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    beside = build(p for p in twin.parameters() if p.requires_grad)
    beside.load_state_dict(saved[2])
    go(twin, again, beside, range(3, 8))
    assert bits(twin, beside) == bits(model, optimizer)
    assert bits(again, beside) == bits(regulariser, optimizer)


def test_a_penalty_of_nothing_is_nothing() -> None:
    model = modulated()
    optimizer = OPTIMISERS["SGD"](model.parameters())
    loss_of(model, 0).backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    none = held(model, lookahead=True)
    assert none.penalty().item() == none.backward(optimizer) == held(model, 1, beta=0).backward(optimizer) == 0.0
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
