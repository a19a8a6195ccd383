"""Streams made of other streams: one task repeated, and the task as the label."""

import pytest
import torch

from tasks.continual.streams import (
    MixedSampler,
    permuted,
    repeated,
    rotated,
    which,
)
from tasks.errors import UserError


def test_a_repeated_task_is_one_task_in_several_orders(tiny):
    stream = repeated(tiny, tasks=3, seed=1)
    assert len({id(task.train) for task in stream}) == 1
    assert torch.equal(
        stream[0].view(tiny.test_images), permuted(tiny, 1, 0, first_identity=True)[0].view(tiny.test_images)
    )
    sampler = MixedSampler(stream, 8, seed=0)
    first, second = (sampler.draw(0, [task])[1].tolist() for task in (0, 1))
    assert first != second


def test_the_label_of_an_image_is_its_task(tiny):
    plain, stream = rotated(tiny, 3, 30, 0), which(tiny, 3, 0, of="rotated", degrees=30)
    assert [task.classes for task in stream] == [3, 3, 3]
    for number, (task, other) in enumerate(zip(stream, plain, strict=True)):
        assert set(task.train.labels.tolist()) == set(task.test.labels.tolist()) == {number}
        assert torch.equal(task.view(task.test.images), other.view(other.test.images))
    with pytest.raises(UserError, match="nearest: 'rotated'"):
        which(tiny, 3, 0, of="rotate")
