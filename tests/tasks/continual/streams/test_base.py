"""What all streams share: normalisation, images held out, a description."""

import itertools

import pytest
import torch

from tasks.continual.streams import (
    held_out,
    normalisation,
    permuted,
    rotated,
    split,
)
from tasks.errors import UserError


def test_training_images_have_mean_0_and_std_1_per_channel_after_the_view(image_set):
    two = image_set(channels=2)
    two.train_images[:, 1] //= 3
    view = normalisation(two)
    seen = view(two.train_images).double()
    assert seen.mean((0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert seen.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1], abs=1e-6)
    share = two.train_images[:, 1].double() / 255
    assert view.mean.flatten()[1].item() == pytest.approx(share.mean().item(), abs=1e-6)
    assert view.std.flatten()[1].item() == pytest.approx(share.std(correction=0).item(), abs=1e-6)


def test_statistics_run_over_more_images_than_one_chunk(image_set):
    many = image_set(train=5000, height=2, width=2)
    many.train_images[4500:] = 255
    assert normalisation(many)(many.train_images).double().mean().item() == pytest.approx(0, abs=1e-5)


def test_a_constant_channel_is_centred_and_stays_finite(tiny):
    tiny.train_images[:] = 51
    assert normalisation(tiny)(tiny.train_images).abs().max() < 1e-6


def test_a_stream_needs_training_images(image_set):
    with pytest.raises(UserError, match="test images only"):
        permuted(image_set(train=0), 2, 0)


def test_all_streams_normalise_alike(tiny):
    plain = normalisation(tiny)(tiny.test_images)
    assert torch.equal(permuted(tiny, 1, 0, first_identity=True)[0].view(tiny.test_images), plain)
    assert torch.equal(split(tiny, 2, 0)[0].view(tiny.test_images), plain)
    torch.testing.assert_close(rotated(tiny, 1, 30, 0)[0].view(tiny.test_images), plain, atol=1e-4, rtol=0)


def test_held_out_images_come_from_training_and_leave_it(tiny):
    stream = split(tiny, 2, 0)
    cut = held_out(stream, 5, 1)
    for before, after in zip(stream, cut, strict=True):
        assert (len(after.test), len(after.train)) == (5, len(before.train) - 5)

        def rows(*splits):
            pairs = (zip(one.images, one.labels, strict=True) for one in splits)
            return sorted((image.flatten().tolist(), int(label)) for image, label in itertools.chain(*pairs))

        assert rows(after.train, after.test) == rows(before.train)
    assert (stream.describe()["held_out"], cut.describe()["held_out"]) == (None, 5)


def test_held_out_follows_its_seed_and_copies_shared_images_once(tiny):
    stream = permuted(tiny, 10, 0)
    first, again, other = held_out(stream, 5, 1), held_out(stream, 5, 1), held_out(stream, 5, 2)
    assert len({id(task.train) for task in first}) == len({id(task.test) for task in first}) == 1
    assert torch.equal(first[0].test.images, again[9].test.images)
    assert not torch.equal(first[0].test.images, other[0].test.images)
    assert torch.equal(held_out(permuted(tiny, 3, 0), 5, 1)[0].test.images, first[0].test.images)
    with pytest.raises(UserError, match="got 40 of 40"):
        held_out(stream, 40, 0)


def test_describe_names_the_data_and_the_stream(tiny):
    assert permuted(tiny, 3, 8).describe() == {
        "name": "tiny",
        "sha256": "5e",
        "substitute": None,
        "stream": "permuted",
        "tasks": 3,
        "classes": 4,
        "shape": [1, 6, 6],
        "seed": 8,
        "held_out": None,
    }
