"""The stream of questions: pairs against a slow reference, answers against the pairs, nothing of a test pair in training."""

import dataclasses
from collections import Counter

import pytest
import torch

from tasks.continual.streams import held_out, questions
from tasks.continual.streams.questions import QUESTIONS
from tasks.data.prepare import halved
from tasks.errors import UserError

SLOW = {
    "left": lambda a, b, n: a,
    "right": lambda a, b, n: b,
    "larger": lambda a, b, n: a if a > b else b,
    "smaller": lambda a, b, n: b if a > b else a,
    "sum": lambda a, b, n: a + b if a + b < n else a + b - n,
}


def sides(stream):
    """The two images of every pair as tuples of pixels, (train, test)."""
    for part in ("train", "test"):
        images = getattr(stream[0], part).images
        width = images.shape[3] // 2
        yield [(tuple(i[..., :width].flatten().tolist()), tuple(i[..., width:].flatten().tolist())) for i in images]


def known(images, labels):
    """The class of each image, by its pixels."""
    found = {tuple(i.flatten().tolist()): int(label) for i, label in zip(images, labels, strict=True)}
    assert len(found) == len(labels)
    return found


def test_every_answer_agrees_with_the_images_of_its_pair(image_set):
    images = image_set(train=41, classes=5)
    stream = questions(images, 5, 3)
    assert [task.name for task in stream] == [f"questions-{name}" for name in QUESTIONS]
    for part, pairs in zip(("train", "test"), sides(stream), strict=True):
        full = known(getattr(images, f"{part}_images"), getattr(images, f"{part}_labels"))
        for name, task in zip(QUESTIONS, stream, strict=True):
            expected = [SLOW[name](full[left], full[right], 5) for left, right in pairs]
            assert getattr(task, part).labels.tolist() == expected
        assert len({tuple(getattr(task, part).labels.tolist()) for task in stream}) == 5


def test_every_image_is_in_one_pair_of_its_own_part(image_set):
    images = image_set(train=41, test=20)
    for part, pairs in zip(("train", "test"), sides(questions(images, 2, 3)), strict=True):
        full = known(getattr(images, f"{part}_images"), getattr(images, f"{part}_labels"))
        times = Counter(image for pair in pairs for image in pair)
        assert len(pairs) == len(full) // 2
        assert set(times.values()) == {1}
        assert set(times) <= set(full)


def test_all_questions_are_asked_about_the_same_images(tiny):
    stream = questions(tiny, 3, 0)
    assert len({id(task.train.images) for task in stream}) == len({id(task.test.images) for task in stream}) == 1
    assert stream.shape == (1, 6, 12)
    assert (stream.classes, {task.classes for task in stream}) == (4, {4})
    assert len({task.train.images.data_ptr() for task in stream.to("cpu")}) == 1
    moved = stream.to("meta")
    assert len({id(task.train.images) for task in moved}) == len({id(task.test.images) for task in moved}) == 1
    assert {task.train.labels.device.type for task in moved} == {"meta"}


def test_the_view_is_the_pair_normalised_by_the_training_pairs(tiny):
    task = questions(tiny, 2, 0)[1]
    seen, pixels = task.view(task.train.images).double(), task.train.images.double()
    torch.testing.assert_close(seen, (pixels - pixels.mean()) / pixels.std(correction=0), atol=1e-5, rtol=0)


def test_halving_is_the_mean_of_four_pixels(image_set):
    images = image_set(train=6, channels=2, height=4, width=6).train_images
    images[0, 0, :2, :2] = torch.tensor([[1, 0], [1, 0]])
    images[0, 0, 2:, :2] = 255
    small = halved(images)
    assert (small.dtype, small.shape) == (torch.uint8, (6, 2, 2, 3))
    for n, c, y, x in ((n, c, y, x) for n in range(6) for c in range(2) for y in range(2) for x in range(3)):
        four = [int(images[n, c, 2 * y + i, 2 * x + j]) for i in (0, 1) for j in (0, 1)]
        assert int(small[n, c, y, x]) == int(sum(four) / 4 + 0.5)


def test_halved_pairs_are_the_pairs_of_halved_images(tiny):
    small = dataclasses.replace(tiny, train_images=halved(tiny.train_images), test_images=halved(tiny.test_images))
    one, two = questions(tiny, 2, 5, halve=True), questions(small, 2, 5)
    assert one.shape == two.shape == (1, 3, 6)
    assert torch.equal(one[0].train.images, two[0].train.images)
    assert torch.equal(one[1].test.images, two[1].test.images)


def test_pairs_follow_the_seed_and_not_the_questions(tiny):
    first, again, other = questions(tiny, 2, 1), questions(tiny, 5, 1), questions(tiny, 2, 2)
    assert torch.equal(first[0].train.images, again[4].train.images)
    assert torch.equal(first[1].test.labels, again[1].test.labels)
    assert not torch.equal(first[0].train.images, other[0].train.images)
    assert not torch.equal(first[0].test.images, other[0].test.images)
    swapped = questions(tiny, 2, 1, asked=["right", "left"])
    assert torch.equal(swapped[0].train.labels, first[1].train.labels)


def test_held_out_pairs_are_the_same_for_every_question_and_show_no_trained_image(tiny):
    stream = questions(tiny, 3, 0)
    cut = held_out(stream, 6, 1)
    assert len({id(task.train.images) for task in cut}) == len({id(task.test.images) for task in cut}) == 1
    trained, held = ({image for pair in pairs for image in pair} for pairs in sides(cut))
    assert (len(trained), len(held)) == (2 * 14, 2 * 6)
    assert not trained & held
    full = known(tiny.train_images, tiny.train_labels)
    for name, task in zip(QUESTIONS, cut, strict=False):
        for part, pairs in zip(("train", "test"), sides(cut), strict=True):
            expected = [SLOW[name](full[left], full[right], 4) for left, right in pairs]
            assert getattr(task, part).labels.tolist() == expected


def test_the_two_sides_say_nothing_of_each_other(image_set):
    stream = questions(image_set(train=4000, height=2, width=2), 2, 0)
    same = (stream[0].train.labels == stream[1].train.labels).double().mean()
    assert float(same) == pytest.approx(1 / 4, abs=0.03)


def test_what_can_not_be_asked_is_refused(tiny, image_set):
    with pytest.raises(UserError, match="got 'lefft'; nearest: 'left'"):
        questions(tiny, 1, 0, asked=["lefft"])
    with pytest.raises(UserError, match="got 3 tasks for left, right; ask for fewer tasks, or add questions"):
        questions(tiny, 3, 0, asked=["left", "right"])
    with pytest.raises(UserError, match="a question of its own; got 2 tasks for left, left"):
        questions(tiny, 2, 0, asked=["left", "left"])
    with pytest.raises(UserError, match="at least one task"):
        questions(tiny, 0, 0)
    with pytest.raises(UserError, match="even sides; got 5 x 6"):
        questions(image_set(height=5), 2, 0, halve=True)
    with pytest.raises(UserError, match="test images only"):
        questions(image_set(train=0), 2, 0)
