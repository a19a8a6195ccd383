"""Support sets as conditions: drawn from training images by the seed, read by a hypernetwork, the same for a batch as for each task."""

from typing import Any

import pytest
import torch

from tasks.continual.learners import Supported
from tasks.errors import UserError
from tests.tasks.continual.learners.stage import images
from tests.tasks.setup import bench

AFFINE = {
    "kind": {"_target_": "neuromod.Affine"},
    "source": {"_target_": "neuromod.Hypernet", "reads": "condition", "hidden": 8},
    "sites": {"outputs": "1"},
}
HEAD = {
    "kind": {"_target_": "neuromod.Head"},
    "source": {"_target_": "neuromod.Table", "tasks": 1},
    "sites": {"head": None},
}


def made(stage: tuple[Any, Any], **options: Any) -> Supported:
    stream, target = stage
    return Supported(target, stream, bench(0), modulators={"head": HEAD, "affine": AFFINE, "none": None}, **options)


def test_a_set_is_what_goes_into_the_head_of_some_training_images(stage: tuple[Any, Any]) -> None:
    learner, (stream, target) = made(stage, support=7), stage
    found = learner.condition(1)
    assert isinstance(found, torch.Tensor)
    assert found.shape == (7, 16)
    assert float(found.square().mean()) == pytest.approx(1.0, rel=1e-5)
    every = target.pristine[:-1](stream[1].view(stream[1].train.images))
    # Each row is that of a training image, up to the one factor of the set.
    sizes = found.norm(dim=1)[:, None]
    directions = torch.nn.functional.normalize(every, dim=1)
    assert all(
        float((directions - row / size).abs().amax(1).min()) < 1e-5 for row, size in zip(found, sizes, strict=True)
    )
    assert torch.equal(found, made(stage, support=7).condition(1))  # type: ignore[arg-type]


def test_a_mixed_batch_is_that_of_each_task_with_its_set(stage: tuple[Any, Any]) -> None:
    learner, (stream, _) = made(stage), stage
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    x = torch.cat([images(stream, task, 2)[0] for task in (0, 1, 2)])
    ids = torch.tensor([0, 0, 1, 1, 2, 2])
    mixed = learner.eval()(x, ids)
    for task in (0, 1, 2):
        torch.testing.assert_close(mixed[ids == task], learner(x[ids == task], task))
    assert not torch.allclose(learner(x[:2], 0)[:, :2], learner(x[:2], 1)[:, :2])


def test_sets_are_refused_in_one_line(stage: tuple[Any, Any]) -> None:
    with pytest.raises(UserError, match="got support=0; pass 1 or more"):
        made(stage, support=0)
    with pytest.raises(UserError, match="got support=100000 of"):
        made(stage, support=100_000)
