import hashlib
import itertools
from dataclasses import replace

import pytest
import torch

from tasks.continual.streams import (
    MixedSampler,
    alphabets,
    held_out,
    normalisation,
    permuted,
    repeated,
    rotated,
    split,
    which,
)
from tasks.continual.streams.permuted import permutation
from tasks.data.image_set import ImageSet
from tasks.errors import UserError
from tasks.runs.seeds import derive, seeds

# Normalisation


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


# Permuted


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


# Rotated


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


# Split


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


# Held out


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


# Seeds


def test_derived_seeds_are_spread_and_repeatable():
    found = [derive(word, seed) for word, seed in itertools.product(("a", "b"), range(100))]
    assert len({seed % 2**32 for seed in found}) == 200
    assert all(0 <= seed < 2**63 for seed in found)
    assert derive("a", 1) == found[1]
    assert derive("a", 12) != derive("a1", 2)


def test_the_seeds_of_a_run_are_independent_of_one_another():
    assert list(seeds(0)) == ["target", "source", "data", "sampling"]
    assert len({value for seed in range(50) for value in seeds(seed).values()}) == 200


def test_a_picture_of_a_permuted_task_puts_pixels_back(image_set):
    images = image_set()
    view = permuted(images, 2, seed=3)[1].view
    seen = view(images.train_images[:1])[0, 0]
    plain = permuted(images, 1, seed=3, first_identity=True)[0].view(images.train_images[:1])[0, 0]
    assert not torch.equal(seen, plain)
    assert torch.equal(view.picture(seen), plain)


# Alphabets


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


# Which


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
