"""Online EWC against its equations: the Fisher information image by image, the pull, the two limits."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neuromod.seeds import generator
from tasks.continual.learners import Dense, OnlineEwc
from tasks.continual.learners.base import sample
from tasks.continual.learners.ewc import fisher_diagonal
from tests.tasks.continual.learners.stage import build, images, state, train
from tests.tasks.setup import bench


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
    net, batches = build("dense", target, stream).net, sample(stream[0], batches=2, size=40)
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
