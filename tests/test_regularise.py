"""Rows of old tasks held while a new one is learned: equation 2 of von Oswald et al. 2020, written as a loop."""

import copy
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Generated,
    Hypernet,
    Kind,
    LowRank,
    LowRankDelta,
    Mixture,
    Modulated,
    Modulator,
    OutputRegulariser,
    RefusedError,
    Source,
    Table,
    Target,
    Threshold,
)
from neuromod.regularise import ahead
from neuromod.seeds import generator
from neuromod.sources.base import Context
from tasks.networks import mlp
from tests import reference

KINDS: dict[str, Callable[[], Kind]] = {
    "scores": Threshold,
    "affine": Affine,
    "generated": Generated,
    "delta": lambda: LowRankDelta(rank=2),
}
SOURCES: dict[str, Callable[[], Source]] = {
    "whole": lambda: Hypernet("task", tasks=4, hidden=6, code=3),
    "chunks": lambda: Hypernet("task", tasks=4, hidden=[6, 5], code=3, chunk=7, chunk_code=2),
    "basis": lambda: LowRank(3, tasks=4),
    "experts": lambda: Mixture(3, "task", tasks=4, hidden=6, code=3),
}
OPTIMISERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator("test", seed), dtype=torch.float64)


X, Y = draw(16, 6), torch.arange(16) % 3


def target() -> Target:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Target(mlp((6,), 3, (5,), norm="layer", bias=True).double(), X)


def sites(t: Target, kind: Kind) -> Any:
    return t.norms() if isinstance(kind, Affine) else t.weights("*")


def shake(module: nn.Module, seed: int = 0, size: float = 0.3) -> None:
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += size * draw(*parameter.shape, seed=1000 * seed + i)


def played(kind: str = "affine", source: str = "whole") -> Modulated:
    t, made = target(), KINDS[kind]()
    model = Modulated(t, Modulator(made, SOURCES[source](), sites(t, made), seed=0))
    shake(model)
    return model


def held(model: Modulated, *tasks: int, **options: Any) -> OutputRegulariser:
    regulariser = OutputRegulariser(model, **({"beta": 0.7, "seed": 5, "lookahead": False} | options))
    for task in tasks:
        regulariser.hold(task)
    return regulariser


def loss_of(model: Modulated, task: int, seed: int = 0) -> Tensor:
    x = draw(16, 6, seed=seed + 77)
    return nn.functional.cross_entropy(model(x, task=task), (x[:, 0] > 0).long() + task % 2)


# ---- the slow truth ------------------------------------------------------------------------------------------------------


def row(source: Source, task: int) -> Tensor:
    """All raw numbers of one task, from the equations of the sources alone."""
    own = dict(source.named_parameters())
    offset = dict(source.offset.named_buffers())
    code = own[f"codes.table.{task}"]
    if isinstance(source, LowRank):
        return torch.cat(
            [reference.low_rank_row(code, source.basis[key], offset[key]).flatten() for key in source.basis]
        )
    assert isinstance(source, Hypernet | Mixture)
    layers = [(own[n], own[n.replace("weight", "bias")]) for n in own if n.startswith("body.") and "weight" in n]
    body = lambda c: torch.relu(reference.mlp(c, layers))  # noqa: E731
    if isinstance(source, Mixture):
        weights = (source.router["weight"] @ body(code) + source.router["bias"]).softmax(0)
        return torch.cat(
            [
                sum(w * expert for w, expert in zip(weights, source.experts[key], strict=True)).flatten()
                for key in source.experts
            ]
        )
    rows = []
    for key, shape in source.shapes.items():
        if source.chunk is None:
            flat = source.head[key] @ body(code) + source.shift[key]
        else:
            head, shift = source.head["chunk"], source.shift["chunk"]
            pieces = [head @ body(torch.cat([code, chunk])) + shift for chunk in source.chunks[key]]
            flat = torch.cat(pieces)[: torch.Size(shape).numel()]
        rows.append(flat * source.scales[key] + (offset[key].flatten() if key in offset else 0))
    return torch.cat(rows)


def slow_penalty(now: Source, then: Source, tasks: list[int], beta: float) -> Tensor:
    """``beta / n * sum_t || h(e_t, Theta*) - h(e_t, Theta) ||^2``, one task and one number after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for task in tasks:
        for a, b in zip(row(then, task).detach().unbind(), row(now, task).unbind(), strict=True):
            total = total + (a - b) ** 2
    return beta / len(tasks) * total


def shared(source: Source) -> dict[str, nn.Parameter]:
    return {name: p for name, p in source.named_parameters() if "codes" not in name}


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_and_its_gradient_are_those_of_the_equation(kind: str, source: str, stored: bool) -> None:
    model = played(kind, source)
    own = next(iter(model.named_modulators().values())).source
    regulariser = held(model, 0, 2, 1, stored=stored)
    then = copy.deepcopy(own)
    for name, parameter in shared(own).items():
        with torch.no_grad():
            parameter += 0.2 * draw(*parameter.shape, seed=len(name))
    expected = slow_penalty(own, then, [0, 2, 1], 0.7)
    assert expected.item() > 1e-3
    assert regulariser.penalty().item() == pytest.approx(expected.item(), rel=1e-12)
    wanted = torch.autograd.grad(expected, list(shared(own).values()), allow_unused=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    assert regulariser.backward(optimizer) == pytest.approx(expected.item(), rel=1e-12)
    for (name, parameter), gradient in zip(shared(own).items(), wanted, strict=True):
        assert gradient is not None, name
        assert parameter.grad is not None, name
        assert torch.allclose(parameter.grad, gradient, rtol=1e-9, atol=1e-12), name
        assert float(gradient.abs().max()) > 0, name


def test_several_modulators_are_held_together() -> None:
    t = target()
    parts = [
        Modulator(Affine(), SOURCES["whole"](), t.norms(), seed=0),
        Modulator(Threshold(), SOURCES["basis"](), t.weights("*"), seed=1),
        Modulator(LowRankDelta(rank=1), Table(tasks=4), t.weights("1.weight"), seed=2),
    ]
    model = Modulated(t, *parts)
    regulariser, then = held(model, 0, 1), copy.deepcopy([part.source for part in parts[:2]])
    shake(model, 3)
    with torch.no_grad():
        for part, old in zip(parts, then, strict=False):
            for code, kept in zip(part.source.codes.parameters(), old.codes.parameters(), strict=True):
                code.copy_(kept)
    expected = sum(slow_penalty(part.source, old, [0, 1], 0.7) for part, old in zip(parts, then, strict=False))
    assert regulariser.penalty().item() == pytest.approx(expected.item(), rel=1e-12)
    assert set(regulariser.sources) == {"affine", "threshold"}


# ---- the look-ahead ------------------------------------------------------------------------------------------------------


def bits(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, Any]]:
    """Everything that a step changes, tensors as their bytes."""
    entries: list[tuple[str, Any]] = list(model.state_dict().items())
    saved = optimizer.state_dict()
    entries += [(f"{i}/{key}", value) for i, state in saved["state"].items() for key, value in state.items()]
    entries += [(f"group {i}/{key}", v) for i, group in enumerate(saved["param_groups"]) for key, v in group.items()]
    return [
        (k, v.detach().clone().numpy().tobytes() if isinstance(v, Tensor) else copy.deepcopy(v)) for k, v in entries
    ]


@pytest.mark.parametrize("warm", [0, 3])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_look_ahead_is_the_step_of_the_optimiser(name: str, warm: int) -> None:
    model = played("generated", "chunks")
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
    model = played()
    optimizer = OPTIMISERS[name](model.parameters())
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, 1, step).backward()
        with ahead(optimizer):
            inside = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer.step()
        assert all(torch.equal(p, inside[n]) for n, p in model.named_parameters())


def test_everything_is_put_back_when_something_fails_in_between() -> None:
    model = played()
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
    model = played()
    optimizer = OPTIMISERS["Adam"](model.parameters())
    loss_of(model, 1).backward()
    assert held(copy.deepcopy(model), 0, lookahead=False).backward(optimizer) == 0.0
    assert held(model, 0, lookahead=True).backward(optimizer) > 0


# ---- samples and targets -------------------------------------------------------------------------------------------------


def test_the_mean_of_many_samples_is_the_whole() -> None:
    model = played()
    regulariser = held(model, 0, 1, 2, sample=2)
    full = OutputRegulariser(model, beta=0.7, seed=5)
    full.load_state_dict(regulariser.state_dict())
    for name, parameter in shared(regulariser.sources["affine"]).items():
        with torch.no_grad():
            parameter += 0.2 * draw(*parameter.shape, seed=len(name))
    drawn = torch.stack([regulariser.penalty().detach() for _ in range(600)])
    assert len(drawn.unique()) == 3
    error = float(drawn.std()) / len(drawn) ** 0.5
    assert abs(float(drawn.mean()) - full.penalty().item()) < 4 * error
    assert int(regulariser.draws) == 600
    assert int(full.draws) == 0


def test_a_sample_is_keyed_by_seed_and_step() -> None:
    values = {}
    for seed in (5, 5, 6):
        model = played()
        regulariser = held(model, 0, 1, 2, sample=1, seed=seed)
        shake(regulariser.sources["affine"].head)
        drawn = [regulariser.penalty().item() for _ in range(12)]
        assert values.setdefault(seed, drawn) == drawn
    assert values[5] != values[6]


@pytest.mark.parametrize("source", SOURCES)
def test_stored_targets_are_those_that_are_recomputed(source: str) -> None:
    model = played("generated", source)
    stored, recomputed = (held(model, stored=stored, sample=2) for stored in (True, False))
    for task in (0, 1, 2):
        for regulariser in (stored, recomputed):
            regulariser.hold(task)
        for parameter in shared(model.named_modulators()["generated"].source).values():
            with torch.no_grad():
                parameter += 0.1 * draw(*parameter.shape, seed=task)
        for _ in range(4):
            a, b = stored.penalty(), recomputed.penalty()
            assert a.item() == pytest.approx(b.item(), rel=1e-12)
            assert a.item() > 0
    count = sum(value.numel() for value in recomputed.weights.buffers())
    assert count == sum(p.numel() for p in shared(model.named_modulators()["generated"].source).values())
    assert len(list(recomputed.rows.buffers())) == len(list(stored.weights.buffers())) == 0


def test_hard_experts_are_held_task_by_task_in_evaluation_too() -> None:
    t = target()
    model = Modulated(t, Modulator(Affine(), Mixture(2, "task", form="hard", tasks=4, hidden=6), t.norms(), seed=0))
    shake(model)
    model.eval()
    regulariser = held(model, 0, 1, 2)
    rows = [model.modulators["affine"](Context((), 0, tasks=(task,))).one() for task in range(3)]
    for key, value in regulariser.rows["affine"].named_buffers():
        assert torch.equal(value, torch.stack([row[key] for row in rows]))
    assert regulariser.penalty().item() == 0
    assert model.train() is model
    assert regulariser.penalty().item() < 1e-20


@pytest.mark.parametrize("stored", [True, False])
def test_a_sealed_task_needs_no_holding(stored: bool) -> None:
    model = played("scores")
    regulariser = held(model, 0, 1, stored=stored)
    own = regulariser.sources["threshold"]
    then = copy.deepcopy(own)
    model.seal(0)
    shake(own.head)
    expected = slow_penalty(own, then, [1], 0.7).item()
    assert regulariser.penalty().item() == pytest.approx(expected, rel=1e-12)
    regulariser.hold(2)
    assert regulariser.held.tolist() == [1, 2]


# ---- learning ------------------------------------------------------------------------------------------------------------


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
        model = played("generated", source)
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
    model = played("affine", source)
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
        model = played("generated", "chunks")
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
    model = played()
    optimizer = OPTIMISERS["SGD"](model.parameters())
    loss_of(model, 0).backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    none = held(model, lookahead=True)
    assert none.penalty().item() == none.backward(optimizer) == held(model, 1, beta=0).backward(optimizer) == 0.0
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


# ---- mistakes ------------------------------------------------------------------------------------------------------------


def reading(source: Source) -> Modulated:
    t = target()
    return Modulated(t, Modulator(Affine(), source, t.norms(), seed=0))


@pytest.mark.parametrize(
    ("attempt", "parts"),
    [
        (lambda: OutputRegulariser(reading(Table(tasks=2)), beta=1, seed=0), ["tasks share", "Table", "a Hypernet"]),
        (lambda: OutputRegulariser(reading(Hypernet("input")), beta=1, seed=0), ["affine reads 'input'", "'task'"]),
        (lambda: OutputRegulariser(played(), beta=-0.1, seed=0), ["beta", "-0.1"]),
        (lambda: OutputRegulariser(played(), beta=float("nan"), seed=0), ["beta", "nan"]),
        (lambda: OutputRegulariser(played(), beta=1, sample=0, seed=0), ["sample=0", "None"]),
        (lambda: held(played(), 9), ["task 9"]),
        (lambda: held(played(), 1, 1), ["once", "task 1", "[1]"]),
    ],
)
def test_a_mistake_is_told_in_one_line(attempt: Callable[[], object], parts: list[str]) -> None:
    with pytest.raises(RefusedError) as caught:
        attempt()
    assert "\n" not in str(caught.value)
    assert re.search(".*".join(map(re.escape, parts)), str(caught.value))


def test_a_penalty_that_is_not_finite_is_refused_and_nothing_has_moved() -> None:
    model = played("affine", "basis")
    regulariser = held(model, 0, lookahead=True)
    optimizer = OPTIMISERS["Adam"](model.parameters())
    loss_of(model, 1).backward()
    with torch.no_grad():
        next(iter(regulariser.sources["affine"].basis.values()))[:] = 1e200
    before = bits(model, optimizer)
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    with pytest.raises(RefusedError, match=r"\Athe penalty must stay finite; got inf; lower [^\n]*\Z"):
        regulariser.backward(optimizer)
    assert bits(model, optimizer) == before
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
