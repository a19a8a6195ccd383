"""Described tasks are what their descriptions say."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.data.image_set import ImageSet
from tasks.errors import UserError
from tasks.transfer.descriptions import DescribedTask, Describing
from tests.images import drawn


def image_set(classes: int = 10) -> ImageSet:
    (train, labels), (test, test_labels) = drawn(80, classes, 8, 1, 1), drawn(40, classes, 8, 1, 2)
    return ImageSet("tiny", train, labels, test, test_labels, tuple(map(str, range(classes))), "0")


def world(*changes: str, grid: tuple[int, ...] = (2, 4), classes: int = 10) -> Describing:
    return Describing(image_set(classes), changes, grid)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cut(image: Tensor, place: int) -> Tensor:
    """A block of a grid of 2 x 4 of an image (8, 8)."""
    row, column = divmod(place, 4)
    return image[4 * row : 4 * row + 4, 2 * column : 2 * column + 2]


def test_blocks_change_places_as_the_description_says() -> None:
    made = world("blocks")
    (task,) = made.draw(1, rng())
    images = made.set.test_images
    seen = made.view(task, images)
    came = task.description.view(8, 8).argmax(1)
    assert sorted(came.tolist()) == list(range(8))
    assert came.tolist() != list(range(8))
    for place in range(8):
        assert torch.equal(cut(seen[3, 0], place), cut(images[3, 0], int(came[place])).float() / 255)


def test_images_are_turned_counter_clockwise_by_the_angle_of_the_description() -> None:
    made = world("turn")
    (task,) = made.draw(1, rng())
    cosine, sine = task.description.tolist()
    assert math.degrees(math.atan2(sine, cosine)) % 360 == pytest.approx(task.degrees, abs=1e-3)
    quarter = DescribedTask(torch.tensor([0.0, 1.0]), 90.0, None, None)
    turned = made.view(quarter, made.set.test_images)
    assert torch.allclose(turned, torch.rot90(made.set.test_images, 1, (2, 3)).float() / 255, atol=1e-4)


def test_a_pair_has_the_images_of_its_classes_and_labels_of_0_and_1() -> None:
    made = world("pairs")
    assert made.outputs == 2
    (task,) = made.draw(1, rng(1))
    assert task.pair is not None
    assert [hot.argmax() for hot in task.description.view(2, 10)] == list(task.pair)
    x, y = made.test(task)
    expected = [(made.set.test_labels == c).sum() for c in task.pair]
    assert [int((y == label).sum()) for label in (0, 1)] == expected
    first = made.set.test_images[made.set.test_labels == task.pair[1]].float() / 255
    assert torch.equal(x[y == 1], first)
    seen, labels = made.batch(task, 50, rng())
    assert set(labels.tolist()) == {0, 1}
    assert seen.shape == (50, 1, 8, 8)


def test_changes_are_made_one_behind_the_other_and_said_in_one_vector() -> None:
    made = world("turn", "blocks", "pairs")
    tasks = made.draw(30, rng())
    assert {len(task.description) for task in tasks} == {2 + 64 + 20}
    task = tasks[0]
    plain = DescribedTask(task.description, task.degrees, None, None)
    turned = made.view(plain, made.set.test_images)
    assert torch.equal(made.view(task, made.set.test_images), made._exchanged(turned, task.order))  # type: ignore[arg-type]


def test_tasks_differ_and_the_first_are_the_same_however_many_are_asked() -> None:
    made = world("pairs")
    whole = [tuple(task.description.tolist()) for task in made.draw(90, rng())]
    assert len(set(whole)) == 90
    assert [tuple(task.description.tolist()) for task in made.draw(7, rng())] == whole[:7]


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ((), {}, r"differ in one of \('turn', 'blocks', 'pairs'\) at least, each once; got \[\]"),
        (("pairs", "pairs"), {}, "each once; got"),
        (("blocks",), {"grid": (3, 4)}, r"divide images of 8 x 8; got grid=\[3, 4\]"),
        (("blocks",), {"grid": (2,)}, r"got grid=\[2\]"),
        (("pairs",), {"classes": 1}, "pairs are of two classes; tiny has 1"),
    ],
)
def test_worlds_that_are_none(changes: tuple[str, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        world(*changes, **options)


@pytest.mark.parametrize(("changes", "most"), [(("pairs",), 90), (("blocks",), 24), (("blocks", "pairs"), 24 * 90)])
def test_more_tasks_than_there_are(changes: tuple[str, ...], most: int) -> None:
    made = world(*changes, grid=(2, 2))
    with pytest.raises(
        UserError, match=rf"a description of its own; .* make {most}, asked are {most + 1}; ask for fewer"
    ):
        made.draw(most + 1, rng())
