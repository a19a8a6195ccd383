"""Permutations: one per seed and task, and a picture puts pixels back."""

import hashlib
import itertools

import torch

from tasks.continual.streams import (
    normalisation,
    permuted,
)
from tasks.continual.streams.permuted import permutation


def test_a_permuted_view_is_the_images_in_another_order_of_pixels(image_set):
    two = image_set(channels=2)
    task = permuted(two, 3, 7)[2]
    order = permutation(36, 7, 2)
    expected = normalisation(two)(two.test_images).flatten(2)[:, :, order].view(20, 2, 6, 6)
    assert torch.equal(task.view(two.test_images), expected)
    assert not torch.equal(order, torch.arange(36))


def test_no_two_of_250_tasks_of_neighbouring_seeds_share_a_permutation():
    def digest(seed, task):
        return hashlib.sha256(permutation(784, seed, task).numpy().tobytes()).hexdigest()

    found = {digest(seed, task) for seed, task in itertools.product((0, 1, 2), range(250))}
    assert len(found) == 750


def test_a_permutation_depends_on_seed_and_task_alone(tiny):
    first, second = permuted(tiny, 2, 3), permuted(tiny, 5, 3)
    assert torch.equal(first[1].view.order, second[1].view.order)
    assert not torch.equal(first[0].view.order, first[1].view.order)


def test_250_tasks_hold_the_images_once(tiny):
    stream = permuted(tiny, 250, 0)
    assert {task.train.images.data_ptr() for task in stream} == {tiny.train_images.data_ptr()}
    moved = stream.to("meta")
    assert len({id(task.train) for task in moved}) == len({id(task.test) for task in moved}) == 1
    assert {
        tensor.device.type for tensor in (moved[9].train.images, moved[9].view.order, moved[9].view.normalise.mean)
    } == {"meta"}


def test_a_picture_of_a_permuted_task_puts_pixels_back(image_set):
    images = image_set()
    view = permuted(images, 2, seed=3)[1].view
    seen = view(images.train_images[:1])[0, 0]
    plain = permuted(images, 1, seed=3, first_identity=True)[0].view(images.train_images[:1])[0, 0]
    assert not torch.equal(seen, plain)
    assert torch.equal(view.picture(seen), plain)
