"""A head alone, trained on features: the same training as through the whole network, wherever statistics stand still."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from neuromod import Target
from tasks.config.load import load
from tasks.continual.learners import Probed
from tasks.continual.learners.base import apart
from tasks.errors import UserError
from tasks.experiment import execute
from tests.tasks.continual.learners.stage import images
from tests.tasks.continual.runs import lines, matrix
from tests.tasks.setup import bench

TABLE = {"_target_": "neuromod.Table", "tasks": 1}
HEAD = {"kind": {"_target_": "neuromod.Head"}, "source": TABLE, "sites": {"head": None}}
STATISTICS = {"kind": {"_target_": "neuromod.Statistics"}, "source": TABLE, "sites": {"statistics": "*"}}
WEIGHTS = {"kind": {"_target_": "neuromod.Threshold"}, "source": TABLE, "sites": {"weights": "1.weight"}}


def test_a_run_is_that_through_the_whole_network(data: str, tmp_path: Path) -> None:
    given = ["experiment=demo/base", data, "data.name=tiny", "modulator=head_table", "device=cpu", "stream.tasks=2"]
    given += ["target=lenet_300_100", "target.kwargs.hidden=[16]", "outputs=10", "batch=16", "steps=20", "log_every=5"]
    plain, probed = (
        execute(load([*given, f"learner={name}"]), root=tmp_path / name, command=["train"], results=tmp_path)
        for name in ("modulated", "probed")
    )
    assert len(lines(plain)) > 4
    for one, other in zip(lines(plain), lines(probed), strict=True):
        assert one.keys() == other.keys()
        assert one.get("loss", 0.0) == pytest.approx(other.get("loss", 0.0), rel=1e-5)
    assert matrix(plain) == matrix(probed)


def test_statistics_are_measured_before_and_what_is_trained_is_what_is_tested(stage: tuple[Any, Any]) -> None:
    stream = stage[0]
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
    )
    target = Target(net, images(stream, 0)[0], norm="batch")
    learner = Probed(target, stream, bench(0), modulators={"head": HEAD, "statistics": STATISTICS})
    given = learner.trained_on(stream)
    for task in range(len(stream)):
        x, y = images(stream, task, 30)
        features = given[task].view(given[task].train.images[:30])
        trained = cross_entropy(learner.train()(features, task), y)
        torch.testing.assert_close(trained, cross_entropy(learner.eval()(x, task), y))
    # Of each task its own: the frozen network's statistics would give one to all.
    rows = [learner.model.named_modulators()["statistics"].source.own(t) for t in (0, 1)]
    assert any(not torch.equal(rows[0][key], rows[1][key]) for key in rows[0])


def test_a_mixed_batch_reads_each_head(stage: tuple[Any, Any]) -> None:
    stream, target = stage
    learner = Probed(target, stream, bench(0), modulators={"head": HEAD})
    x, ids = torch.randn(6, 16), torch.tensor([2, 0, 1, 0, 2, 1])
    mixed = learner.train()(x, ids)
    for row, (one, task) in enumerate(zip(x, ids.tolist(), strict=True)):
        torch.testing.assert_close(mixed[row], learner(one[None], task)[0])


def test_heads_of_several_widths_in_one_batch_are_padded() -> None:
    """As those of a modulated network are: no probability for a class that a task has not."""
    weights = {0: torch.randn(3, 4), 1: torch.randn(5, 4)}
    x, ids = torch.randn(4, 4), torch.tensor([1, 0, 0, 1])
    logits = apart(lambda part, task: part @ weights[task].T, x, ids)
    assert logits.shape == (4, 5)
    for row, (one, task) in enumerate(zip(x, ids.tolist(), strict=True)):
        torch.testing.assert_close(logits[row, : len(weights[task])], weights[task] @ one)
        assert torch.equal(logits[row, len(weights[task]) :], torch.full((5 - len(weights[task]),), -torch.inf))


def test_what_moves_features_is_refused(stage: tuple[Any, Any], data: str, tmp_path: Path) -> None:
    stream, target = stage
    with pytest.raises(UserError, match="a head alone is learned; got head, threshold; pass learner=modulated"):
        Probed(target, stream, bench(0), modulators={"head": HEAD, "weights": WEIGHTS})
    with pytest.raises(UserError, match=r"features \(B, 16\); got"):
        Probed(target, stream, bench(0), modulators={"head": HEAD}).train()(images(stream, 0)[0], 0)
    with pytest.raises(UserError, match="got none; pass run=sequence or run=joint"):
        Probed(target, type(stream)(**{**vars(stream), "tasks": ()}), bench(0), modulators={"head": HEAD})
    flipped = ["experiment=demo/base", data, "modulator=head_table", "learner=probed", "augment=flip_crop", "steps=1"]
    with pytest.raises(UserError, match="computed once of each image; got augment=flip_crop; pass augment=null"):
        execute(load([*flipped, "device=cpu"]), root=tmp_path, command=["train"], results=tmp_path)
