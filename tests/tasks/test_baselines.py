"""The baselines, each against its equation; what must stand still stands still; a stopped run ends as a whole one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuromod.seeds import generator
from tasks.config.load import load
from tasks.continual.learners import BatchEnsemble, Dense, Nothing, OnlineEwc, Psp, Separate
from tasks.continual.learners.base import sample
from tasks.continual.learners.ewc import fisher_diagonal
from tasks.errors import UserError
from tasks.experiment import Costs, execute
from tasks.runs.files import read_json
from tasks.runs.run import Run
from tests.images import write
from tests.tasks.setup import bench, learner_of, stream_of, target_of

TINY = ["experiment=baselines/base", "data=tiny", "target.kwargs.hidden=[16]", "device=cpu", "stream.tasks=3"]
TINY += ["outputs=10", "batch=16", "optimizer.lr=0.01", "steps=20", "log_every=5", "save_every=8"]
CLASSES = {"dense": Dense, "separate": Separate, "ewc": OnlineEwc, "psp": Psp, "batch_ensemble": BatchEnsemble}
TRAINED = list(CLASSES)
FIRST, LAST = "1.weight", "3.weight"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.root='{write(tmp_path_factory.mktemp('data'))}'"


@pytest.fixture(scope="module")
def stage(data: str) -> tuple[Any, Any]:
    config = load([*TINY, data])
    stream = stream_of(config)
    return stream, target_of(config)


def made(method: str, target: Any, stream: Any, **options: Any) -> Any:
    return {**CLASSES, "nothing": Nothing}[method](target, stream, bench(0), **options)


def images(stream: Any, task: int, count: int = 6) -> tuple[Tensor, Tensor]:
    return stream[task].view(stream[task].train.images[:count]), stream[task].train.labels[:count]


def train(learner: Any, stream: Any, task: int, steps: int = 5) -> None:
    """Some steps on a task and its end, as the loop takes them."""
    optimizer = torch.optim.Adam(learner.groups(), lr=0.01)
    for step in range(steps):
        x, y = images(stream, task, 40)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(learner(x, task), y).backward()
        learner.before_step(step, optimizer)
        optimizer.step()
        learner.after_step(step, optimizer)
    learner.after_task(task, stream[task])


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moves(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


# ---- what they have in common ------------------------------------------------------------------------------------------


def run(root: Path, data: str, method: str) -> Path:
    config = load([*TINY, data, f"learner={method}", "stream.tasks=2"])
    return execute(config, root=root, command=["train"], results=root)


@pytest.mark.parametrize("method", TRAINED)
def test_a_run_that_stops_anywhere_ends_as_a_whole_one(
    method: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", data, method)
    save: Callable[..., None] = Run.save

    def stopping(self: Run, tree: Any, step: int) -> None:
        save(self, tree, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", stopping)
    for _ in range(6):  # two checkpoints within each task and one at its end
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", data, method)
    folder = run(tmp_path / "stopped", data, method)
    checkpoint = "checkpoint.safetensors"
    assert (folder / checkpoint).read_bytes() == (whole / checkpoint).read_bytes()
    results = [{k: v for k, v in read_json(f / "result.json").items() if k != "seconds"} for f in (whole, folder)]
    assert results[0] == results[1]


@pytest.mark.parametrize("method", [*TRAINED, "nothing"])
def test_a_batch_that_mixes_tasks_is_that_of_single_tasks(method: str, stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = made(method, target, stream)
    x, task = torch.cat([images(stream, t)[0] for t in range(3)]), torch.tensor([2, 0, 0, 1, 2, 2] * 3)
    with torch.no_grad():
        expected = torch.cat([learner(x[i : i + 1], int(t)) for i, t in enumerate(task)])
        torch.testing.assert_close(learner(x, task), expected)


@pytest.mark.parametrize("method", TRAINED)
def test_the_target_never_moves(method: str, stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = made(method, target, stream)
    x, _ = images(stream, 0)
    before = learner(x, 0)
    for task in range(2):
        train(learner, stream, task)
    target.verify()
    assert not torch.equal(learner(x, 0), before)


WEIGHTS, FACTORS = 64 * 16 + 16 * 10, 64 + 16 + 16 + 10
COUNTS = {"dense": (0, 0, WEIGHTS), "separate": (WEIGHTS, 4 * WEIGHTS, 0), "ewc": (0, 0, WEIGHTS)}
COUNTS |= {"psp": (0, 0, WEIGHTS), "batch_ensemble": (FACTORS, 4 * FACTORS, WEIGHTS), "nothing": (0, 0, 0)}


@pytest.mark.parametrize("method", COUNTS)
def test_what_a_task_costs(method: str, stage: tuple[Any, Any]) -> None:
    stream, target = stage
    assert made(method, target, stream).costs() == Costs(*COUNTS[method])


def test_a_readout_has_the_outputs_of_the_classes(data: str) -> None:
    config = load([*TINY, data, "learner=ridge", "outputs=100"])
    learner = learner_of(config)
    learner.after_task(0, stream_of(config)[0])
    assert learner.costs() == Costs(17 * 10, 4 * 17 * 10, 0)


@pytest.mark.parametrize(
    ("method", "override", "told"),
    [
        ("psp", "strength=1.0", "an option must exist; got 'strength'"),
        ("ewc", "weights_lr=1.0", "an option must exist; got 'weights_lr'"),
        ("ewc", "strength=-1.0", r"strength >= 0 .*; got strength=-1\.0"),
        ("ewc", "decay=1.5", r"decay in \[0, 1\]; got .*decay=1\.5"),
    ],
)
def test_an_option_that_is_not_there(method: str, override: str, told: str, data: str) -> None:
    with pytest.raises(UserError, match=rf"\A[^\n]*{told}[^\n]*\Z"):
        learner_of(load([*TINY, data, f"learner={method}", override]))


# ---- a network per task --------------------------------------------------------------------------------------------------


def test_networks_of_their_own_leave_each_other_alone(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner, alone = made("separate", target, stream), made("dense", target, stream)
    before = state(learner)
    train(learner, stream, 1)
    assert moves(before, state(learner)) == {f"nets.1.{FIRST}", f"nets.1.{LAST}"}
    before = state(learner)
    train(learner, stream, 2)
    assert moves(before, state(learner)) == {f"nets.2.{FIRST}", f"nets.2.{LAST}"}
    train(alone, stream, 2)  # the second task learned is not told from a first
    x, _ = images(stream, 2)
    assert torch.equal(learner(x, 2), alone(x, 2))


# ---- online EWC --------------------------------------------------------------------------------------------------------


def slow_fisher(net: torch.nn.Module, batches: list[Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The mean over images of the squared gradient of log p(y | x), y ~ p(. | x)."""
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for x in (part for batch in batches for part in batch.split(32)):
        labels = torch.multinomial(net(x).softmax(1).detach(), 1, generator=draw)[:, 0]
        for image, label in zip(x, labels, strict=True):
            log_likelihood = net(image[None]).log_softmax(1)[0, label]
            for name, value in zip(total, torch.autograd.grad(log_likelihood, list(net.parameters())), strict=True):
                total[name] += value**2
    return {name: value / sum(len(batch) for batch in batches) for name, value in total.items()}


def test_the_fisher_is_that_of_single_images(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    net, batches = made("dense", target, stream).net, sample(stream[0], batches=2, size=40)
    found = fisher_diagonal(net, batches, generator(3))
    expected = slow_fisher(net, batches, generator(3))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-9)
        assert float(value.max()) > 1e-4


def test_ewc_pulls_back_as_its_equation_does(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    strength, decay, seed = 7.0, 0.5, 11
    learner = OnlineEwc(target, stream, bench(seed), strength=strength, decay=decay)
    fisher = {name: torch.zeros_like(p) for name, p in learner.net.named_parameters()}
    for task in range(2):
        train(learner, stream, task)
        own = slow_fisher(learner.net, sample(stream[task]), generator(seed, "fisher", task))
        fisher = {name: decay * value + own[name] for name, value in fisher.items()}
    centre = {name: p.detach().clone() for name, p in learner.net.named_parameters()}
    with torch.no_grad():
        for parameter in learner.net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator("away"))
    parameters = dict(learner.net.named_parameters())
    penalty = sum((strength / 2 * fisher[name] * (p - centre[name]) ** 2).sum() for name, p in parameters.items())
    expected = torch.autograd.grad(penalty, list(parameters.values()))  # type: ignore[arg-type]
    x, y = images(stream, 2)
    learner.zero_grad()
    torch.nn.functional.cross_entropy(learner(x, 2), y).backward()
    losses = [p.grad.clone() for p in parameters.values()]  # type: ignore[union-attr]
    value = learner.springs.backward()
    assert value == pytest.approx(float(penalty.detach()), rel=1e-3)  # type: ignore[union-attr]
    for parameter, loss, pull in zip(parameters.values(), losses, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad - loss, pull, rtol=1e-3, atol=1e-6)
        assert float(pull.abs().max()) > 1e-4


def test_ewc_of_no_strength_is_fine_tuning_and_a_strong_one_stands_still(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    free = Dense(target, stream, bench(0))
    loose, stiff = (OnlineEwc(target, stream, bench(0), strength=s) for s in (0.0, 1e5))
    for learner in (free, loose, stiff):
        train(learner, stream, 0)
    x, _ = images(stream, 0)
    assert torch.equal(free(x, 0), stiff(x, 0))  # nothing is held before the first task ends
    before = state(free.net)
    for learner in (free, loose, stiff):
        train(learner, stream, 1, steps=40)
    assert torch.equal(free(x, 0), loose(x, 0))

    start = Dense(target, stream, bench(0))
    start.net.load_state_dict(before)
    fisher = fisher_diagonal(start.net, sample(stream[0]), generator(0))

    def moved_by(learner: Any) -> float:
        """How far a network went, by what the first task's Fisher says of each weight."""
        return sum(float((fisher[n] * (p.detach() - before[n]) ** 2).sum()) for n, p in learner.net.named_parameters())

    assert moved_by(stiff) < 0.01 * moved_by(free)


# ---- parameter superposition -------------------------------------------------------------------------------------------


def test_psp_is_its_equation(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = Psp(target, stream, bench(5))
    x, _ = images(stream, 0)
    for task in range(3):
        h = x.flatten(1)
        for name in (FIRST, LAST):
            W, c = learner.net.get_parameter(name), learner.contexts(name)[task]
            y = torch.zeros(len(h), len(W))
            for b in range(len(h)):
                for o in range(len(W)):
                    y[b, o] = (W[o] * (c * h[b])).sum()
            h = y.relu() if name == FIRST else y
        torch.testing.assert_close(learner(x, task), h, rtol=1e-4, atol=1e-5)


def test_contexts_are_signs_nearly_orthogonal_and_come_from_the_seed(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    many, tasks = dataclasses.replace(stream, tasks=stream.tasks[:1] * 200), 200
    learner = Psp(target, many, bench(5))
    contexts = learner.contexts(FIRST)
    assert set(contexts.unique().tolist()) == {-1.0, 1.0}
    between = (contexts @ contexts.T / contexts.shape[1])[~torch.eye(tasks, dtype=torch.bool)]
    assert abs(float(between.mean())) < 0.01
    assert float(between.std()) == pytest.approx(contexts.shape[1] ** -0.5, rel=0.05)
    assert torch.equal(Psp(target, stream, bench(5)).contexts(FIRST), contexts[:3])
    assert not torch.equal(Psp(target, stream, bench(6)).contexts(FIRST), contexts[:3])
    assert set(learner.state_dict()) == {f"net.{FIRST}", f"net.{LAST}"}  # contexts are not stored


# ---- BatchEnsemble -----------------------------------------------------------------------------------------------------


def test_batch_ensemble_is_its_equation(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = BatchEnsemble(target, stream, bench(5))
    with torch.no_grad():
        for number, value in enumerate(learner.factors.parameters()):
            assert set(value.unique().tolist()) <= {-1.0, 1.0}
            value += torch.rand(value.shape, generator=generator("moved", number))
    x, _ = images(stream, 0)
    for task in range(3):
        own = {name.replace("/", "."): value for name, value in learner.factors[task].named_parameters()}
        h = x.flatten(1)
        for name in (FIRST, LAST):
            W, r, s = learner.net.get_parameter(name), own[f"{name}:r"], own[f"{name}:s"]
            h = (h * r) @ W.T * s
            h = h.relu() if name == FIRST else h
        torch.testing.assert_close(learner(x, task), h, rtol=1e-4, atol=1e-5)


def test_shared_weights_learn_with_the_first_task_alone_and_factors_with_their_own(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = BatchEnsemble(target, stream, bench(5), weights_lr=1e-3)
    optimizer = torch.optim.Adam(learner.groups(), lr=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1e-3]
    weights = {f"net.{FIRST}", f"net.{LAST}"}
    before = state(learner)
    train(learner, stream, 0)
    own = {f"factors.{{}}.{name.replace('.', '/')}:{part}" for name in (FIRST, LAST) for part in "rs"}
    assert moves(before, state(learner)) == weights | {name.format(0) for name in own} | {"frozen"}
    for task in (1, 2):
        before = state(learner)
        assert not any(p is w for g in learner.groups() for p in g["params"] for w in learner.net.parameters())
        train(learner, stream, task)
        assert moves(before, state(learner)) == {name.format(task) for name in own}
    fresh = BatchEnsemble(target, stream, bench(5))
    fresh.load_state_dict(learner.state_dict())
    assert not any(p.requires_grad for p in fresh.net.parameters())
