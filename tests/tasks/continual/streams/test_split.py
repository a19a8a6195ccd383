"""Classes in groups, one group per task; alphabets are groups by name."""

import itertools
from dataclasses import replace

import pytest
import torch

from tasks.continual.streams import (
    alphabets,
    split,
)
from tasks.data.image_set import ImageSet
from tasks.errors import UserError


@pytest.mark.parametrize("shuffle", [False, True])
def test_split_tasks_have_disjoint_classes_that_cover_the_set(image_set, shuffle):
    eight = image_set(classes=8)
    kept, renumbered = split(eight, 4, 5, shuffle, relabel=False), split(eight, 4, 5, shuffle)
    groups = [set(task.train.labels.tolist()) for task in kept]
    assert sorted(itertools.chain(*groups)) == list(range(8))
    assert [set(task.test.labels.tolist()) for task in kept] == groups
    assert (groups == [{0, 1}, {2, 3}, {4, 5}, {6, 7}]) is not shuffle
    assert all(set(task.train.labels.tolist()) == {0, 1} for task in renumbered)
    assert (kept.classes, kept[0].classes, renumbered.classes, renumbered[0].classes) == (8, 8, 2, 2)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_split_keeps_each_image_with_its_class(image_set, seed):
    eight = image_set(classes=8)
    for kept, renumbered in zip(split(eight, 4, seed, True, relabel=False), split(eight, 4, seed, True), strict=True):
        for part, full in (("train", eight.train_images), ("test", eight.test_images)):
            was, now = getattr(kept, part), getattr(renumbered, part)
            place = {int(new): int(old) for old, new in zip(was.labels, now.labels, strict=True)}
            assert set(place) == {0, 1}
            assert [place[int(new)] for new in now.labels] == was.labels.tolist()
            assert torch.equal(now.images, full[torch.isin(torch.arange(len(full)) % 8, was.labels)])


def test_shuffled_splits_follow_the_seed(image_set):
    eight = image_set(classes=8)

    def groups(seed):
        return [sorted(set(task.train.labels.tolist())) for task in split(eight, 4, seed, True, relabel=False)]

    assert groups(0) == groups(0)
    assert any(groups(0) != groups(seed) for seed in range(1, 4))


def test_tasks_that_do_not_divide_the_classes_or_lack_images_are_refused(tiny):
    with pytest.raises(UserError, match=r"divide the 4 classes of tiny; got 3; take one of \[1, 2, 4\]"):
        split(tiny, 3, 0)
    with pytest.raises(UserError, match="at least one task"):
        split(tiny, 0, 0)
    lacking = ImageSet(
        "few",
        *(tiny.train_images[:4], tiny.train_labels[:4] % 2),
        *(tiny.test_images, tiny.test_labels),
        tiny.classes,
        "0",
    )
    with pytest.raises(UserError, match="few has none of c, d"):
        split(lacking, 2, 0)


def test_an_alphabet_is_a_task_with_every_fifth_drawing_held_for_the_test(image_set):
    names = ("b/x", "a/y", "b/z", "a/w")
    some = image_set(train=40, classes=4)
    labelled = replace(some, classes=names, train_labels=torch.arange(40) % 4)
    stream = alphabets(labelled, 2, 0)
    assert [task.name for task in stream] == ["alphabets-0-a", "alphabets-1-b"]
    assert [task.classes for task in stream] == [2, 2]
    # Class 1 is label 0 of a; its images are 1, 5, 9, ...: of ten every fifth is a test image.
    assert torch.equal(stream[0].test.images[stream[0].test.labels == 0], some.train_images[[17, 37]])
    assert len(stream[0].train) == 16
    assert len(stream[0].test) == 4
    with pytest.raises(UserError, match="3 tasks for 2"):
        alphabets(labelled, 3, 0)
    with pytest.raises(UserError, match="GROUP/CLASS"):
        alphabets(replace(labelled, classes=("a/x", "plain", "a/z", "a/w")), 1, 0)
