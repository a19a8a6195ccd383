"""Rotations about the centre, exact at quarter turns."""

import pytest
import torch

from tasks.continual.streams import (
    normalisation,
    rotated,
)
from tasks.errors import UserError


def test_a_quarter_turn_is_counter_clockwise_and_exact_on_a_square(tiny):
    stream = rotated(tiny, 4, 90, 0)
    for turns, task in enumerate(stream):
        expected = normalisation(tiny)(torch.rot90(tiny.test_images, turns, (2, 3)))
        torch.testing.assert_close(task.view(tiny.test_images), expected, atol=1e-4, rtol=0)


def test_an_oblong_image_is_turned_and_not_sheared(image_set):
    oblong = image_set(height=4, width=8)
    half = rotated(oblong, 2, 180, 0)[1].view(oblong.test_images)
    expected = normalisation(oblong)(oblong.test_images.flip(2, 3))
    torch.testing.assert_close(half, expected, atol=1e-4, rtol=0)
    # A quarter turn about the centre keeps the middle square of 4 x 4 as a turned square.
    quarter = rotated(oblong, 2, 90, 0)[1].view(oblong.test_images)[:, :, :, 2:6]
    middle = normalisation(oblong)(torch.rot90(oblong.test_images[:, :, :, 2:6], 1, (2, 3)))
    torch.testing.assert_close(quarter, middle, atol=1e-4, rtol=0)


def test_corners_are_filled_with_black(tiny):
    turned = rotated(tiny, 2, 45, 0)[1].view(torch.full_like(tiny.test_images, 255))
    black, white = (normalisation(tiny)(torch.full((1, 1, 1, 1), value)).item() for value in (0, 255))
    assert turned[0, 0, 0, 0].item() == pytest.approx(black)
    assert turned[0, 0, 3, 3].item() == pytest.approx(white, abs=1e-4)


def test_random_angles_lie_in_the_range_and_follow_the_seed(tiny):
    def angles(seed):
        return [float(task.name.removeprefix("rotated-")) for task in rotated(tiny, 20, 180, seed, random=True)]

    assert angles(1) == angles(1) != angles(2)
    assert 0 <= min(angles(1)) < 60 < 120 < max(angles(1)) < 180


def test_two_tasks_of_one_angle_are_refused(tiny):
    assert len(rotated(tiny, 36, 10, 0)) == 36
    with pytest.raises(UserError, match=r"37 tasks of 10 degrees; ask for fewer tasks, or take 9\.7"):
        rotated(tiny, 37, 10, 0)
