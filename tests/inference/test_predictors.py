"""Predictors against loops that read like their equations."""

import math

import pytest
import torch
from torch import Tensor

from neuromod import RefusedError
from neuromod.inference.predictors import Linear, Predictor, RandomFeatures, Signature, Subspaces, classify, task_scores


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data(task: int, count: int = 60) -> tuple[Tensor, Tensor]:
    """Two classes a task, each around a centre of its own and stretched along a direction of its own."""
    y = torch.arange(count) % 2
    centres, directions = draw(2, 9, seed=10 + task) * 2, draw(2, 9, seed=50 + task) * 2
    x = centres[y] + draw(count, 1, seed=100 + task) * directions[y] + 0.3 * draw(count, 9, seed=200 + task)
    return x.float(), y


def learned(predictor: Predictor) -> Predictor:
    for task in (4, 1, 2):
        predictor.learn(task, *data(task))
    return predictor


PREDICTORS = {
    "signature": lambda: Signature(),
    "subspaces": lambda: Subspaces(2),
    "lda": lambda: Linear("lda", RandomFeatures(40, seed=3)),
    "ridge": lambda: Linear("ridge", RandomFeatures(40, seed=3)),
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_tasks_and_classes_are_told_apart(name: str) -> None:
    predictor = learned(PREDICTORS[name]())
    assert predictor.tasks() == (4, 1, 2)
    for place, task in enumerate(predictor.tasks()):
        x, y = data(task, 80)
        scores = task_scores(predictor, x)
        every, owner, label = predictor.class_scores(x)
        expected = torch.stack([every[:, owner == t].max(1).values for t in predictor.tasks()], 1)
        assert torch.equal(scores, expected)
        assert float((scores.argmax(1) == place).double().mean()) > 0.9
        found, classes = classify(predictor, x)
        assert torch.equal(found, owner[every.argmax(1)])
        assert torch.equal(classes, label[every.argmax(1)])
        if name != "signature":
            assert float(((found == task) & (classes == y)).double().mean()) > 0.9


def test_a_signature_is_naive_bayes_of_high_values() -> None:
    predictor = Signature(above=0.5)
    x = (draw(50, 6) > 0).float()
    predictor.learn(0, x, torch.zeros(50, dtype=torch.long))
    p = [max(1, min(254, round(float(x[:, j].mean()) * 255))) / 255 for j in range(6)]
    scores, _, label = predictor.class_scores(x[:3])
    for b in range(3):
        expected = sum(math.log(p[j]) if x[b, j] > 0.5 else math.log(1 - p[j]) for j in range(6))
        assert float(scores[b, 0]) == pytest.approx(expected, rel=1e-5)
    assert label.tolist() == [-1]
    assert predictor.bytes() == (6, 0)


def test_subspaces_are_gaussians_with_few_directions() -> None:
    predictor = Subspaces(2)
    x, y = data(0, 200)
    predictor.learn(7, x, y)
    mean, basis, variances = predictor.kept[7, 1]
    values = torch.linalg.eigvalsh(torch.cov(x[y == 1].double().T))
    assert torch.allclose(variances[:-1].double(), values[-2:], rtol=1e-4)
    assert float(variances[-1]) == pytest.approx(float(values[:-2].mean()), rel=1e-3)
    assert float((basis @ basis.T - torch.eye(2)).abs().max()) < 0.03  # directions are rounded to bytes
    cov = basis.T @ torch.diag(variances[:-1] - variances[-1]) @ basis + variances[-1] * torch.eye(9)
    normal = torch.distributions.MultivariateNormal(mean.double(), cov.double())
    scores, owner, label = predictor.class_scores(x[:5])
    expected = normal.log_prob(x[:5].double()) + 9 / 2 * math.log(2 * math.pi)
    assert torch.allclose(scores[:, 1].double(), expected, rtol=0.05, atol=0.2)
    assert (owner.tolist(), label.tolist()) == ([7, 7], [0, 1])
    assert predictor.bytes() == (2 * (3 * (9 + 4) + 4 * 2 + 4), 0)


def test_images_are_averaged_over_blocks() -> None:
    predictor = Subspaces(2, pool=2)
    images = draw(40, 1, 4, 4).float()
    predictor.learn(0, images, torch.zeros(40, dtype=torch.long))
    blocks = torch.stack([images[:, 0, i : i + 2, j : j + 2].mean((1, 2)) for i in (0, 2) for j in (0, 2)], 1)
    assert torch.allclose(predictor.kept[0, 0][0], blocks.mean(0), atol=1e-2)


@pytest.mark.parametrize("form", ["lda", "ridge"])
def test_linear_routers_learn_in_one_pass_what_they_learn_at_once(form: str) -> None:
    features = RandomFeatures(30, seed=1)
    predictor = learned(Linear(form, features, shrink=1e-2))
    parts = [(task, *data(task)) for task in (4, 1, 2)]
    H = torch.cat([features(x) for _, x, _ in parts])
    index = torch.cat([2 * place + y for place, (_, _, y) in enumerate(parts)])
    Y = torch.nn.functional.one_hot(index).double()
    x = data(1)[0]
    if form == "ridge":
        W = torch.linalg.solve(H.T @ H / len(H) + 1e-2 * torch.eye(30, dtype=torch.float64), H.T @ Y / len(H))
        expected = features(x) @ W
    else:
        means = torch.stack([H[index == c].mean(0) for c in range(6)])
        S = sum((H[index == c] - means[c]).T @ (H[index == c] - means[c]) for c in range(6)) / len(H)
        S = 0.99 * S + 0.01 * torch.trace(S) / 30 * torch.eye(30, dtype=torch.float64)
        expected = torch.stack(
            [features(x) @ torch.linalg.solve(S, m) - m @ torch.linalg.solve(S, m) / 2 for m in means], 1
        )
    scores, owner, label = predictor.class_scores(x)
    assert torch.allclose(scores, expected, rtol=1e-8)
    assert owner.tolist() == [4, 4, 1, 1, 2, 2]
    assert label.tolist() == [0, 1] * 3
    assert predictor.bytes() == (4 * 30 * 2, 4 * 30 * 31 // 2)


def test_what_routers_refuse() -> None:
    x, y = data(0)
    for make in PREDICTORS.values():
        predictor = make()
        predictor.learn(0, x, y)
        with pytest.raises(RefusedError, match="learns a task once; got task 0 again"):
            predictor.learn(0, x, y)
        with pytest.raises(RefusedError, match="a label each; got 60 and 59"):
            predictor.learn(1, x, y[1:])
        with pytest.raises(RefusedError, match="those of task 1 are not"):
            predictor.learn(1, x / 0, y)
    with pytest.raises(RefusedError, match="below the 9 inputs; got 9"):
        Subspaces(9).learn(0, x, y)
    with pytest.raises(RefusedError, match="got rank=0, pool=2"):
        Subspaces(0)
    with pytest.raises(RefusedError, match="'lda' or 'ridge'; got 'svm'"):
        Linear("svm")
    with pytest.raises(RefusedError, match=r"shrink must be in \(0, 1\); got 0"):
        Linear(shrink=0)
    with pytest.raises(RefusedError, match="scores learned tasks; got none"):
        Linear().class_scores(x)
