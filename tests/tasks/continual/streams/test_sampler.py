import pytest
import torch

from tasks.continual.streams import BatchSampler, MixedSampler, batches, evaluate_batches, permuted, split
from tasks.continual.streams.augment import flip_crop
from tasks.errors import UserError


@pytest.mark.parametrize(("length", "batch"), [(10, 4), (12, 4), (3, 8), (7, 7), (1, 2)])
def test_every_image_is_drawn_once_an_epoch_in_batches_of_one_size(length, batch):
    sampler = BatchSampler(length, batch, 0)
    drawn = [sampler.indices(step) for step in range(3 * length)]
    assert {len(indices) for indices in drawn} == {batch}
    for epoch in torch.cat(drawn).split(length):
        assert sorted(epoch.tolist()) == list(range(length))


def test_epochs_and_seeds_differ():
    sampler, other = BatchSampler(50, 50, 0), BatchSampler(50, 50, 1)
    orders = [sampler.indices(0), sampler.indices(1), other.indices(0), other.indices(1), torch.arange(50)]
    assert len({tuple(order.tolist()) for order in orders}) == 5


def test_a_batch_is_the_same_whatever_was_drawn_before():
    straight = BatchSampler(10, 4, 3)
    sequence = [straight.indices(step).tolist() for step in range(12)]
    assert [BatchSampler(10, 4, 3).indices(step).tolist() for step in range(12)] == sequence
    assert [straight.indices(step).tolist() for step in reversed(range(12))] == sequence[::-1]


def test_an_empty_split_is_refused():
    with pytest.raises(UserError, match="got 0 images"):
        BatchSampler(0, 4, 0)


def generator(seed=4):
    return torch.Generator().manual_seed(seed)


def test_batches_are_views_of_training_images_with_their_labels(tiny):
    task = permuted(tiny, 2, 0)[1]
    seen = list(batches(task, 10, generator(), steps=4))
    inputs, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    known = {
        tuple(row.flatten().tolist()): int(y)
        for row, y in zip(task.view(task.train.images), task.train.labels, strict=True)
    }
    assert [known[tuple(row.flatten().tolist())] for row in inputs] == labels.tolist()
    assert len({tuple(row.flatten().tolist()) for row in inputs}) == 40


def test_batches_resume_where_they_stopped(tiny):
    task = split(tiny, 2, 0)[1]
    whole = list(batches(task, 8, generator(), steps=9))
    rest = list(batches(task, 8, generator(), steps=9, start=5))
    assert len(whole) == 9
    for (x, y), (x_again, y_again) in zip(whole[5:], rest, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)
    assert not torch.equal(whole[0][0], next(batches(task, 8, generator(5), steps=1))[0])


def test_evaluation_batches_are_the_split_in_order(tiny):
    task = permuted(tiny, 1, 0)[0]
    seen = list(evaluate_batches(task.test, 8))
    assert [len(y) for _, y in seen] == [8, 8, 4]
    assert torch.equal(torch.cat([x for x, _ in seen]), tiny.test_images)
    assert torch.equal(torch.cat([y for _, y in seen]), tiny.test_labels)


def test_a_mixed_batch_holds_each_task_seen_through_its_own_view(tiny):
    stream = permuted(tiny, 3, 0)
    x, y, ids = MixedSampler(stream, 12, 0).draw(2, [2, 0])
    assert (x.dtype, y.dtype, ids.dtype) == (torch.float32, torch.int64, torch.int64)
    assert ids.tolist() == [2] * 6 + [0] * 6
    for task in (0, 2):
        view = stream[task].view(stream[task].train.images)
        known = {tuple(row.flatten().tolist()): int(label) for row, label in zip(view, tiny.train_labels, strict=True)}
        assert [known[tuple(row.flatten().tolist())] for row in x[ids == task]] == y[ids == task].tolist()


def sizes(sampler, tasks, step=0):
    return torch.bincount(sampler.draw(step, tasks)[2], minlength=len(sampler.stream)).tolist()


def test_groups_are_equal_and_the_remainder_goes_to_the_first(tiny):
    sampler = MixedSampler(permuted(tiny, 4, 0), 10, 0)
    assert sizes(sampler, [0, 1, 2, 3]) == [3, 3, 2, 2]
    assert sizes(sampler, [3, 1, 0]) == [3, 3, 0, 4]


def test_groups_follow_the_balance(tiny):
    stream = permuted(tiny, 3, 0)
    assert sizes(MixedSampler(stream, 16, 0, balance=[1, 2, 5]), [0, 1, 2]) == [2, 4, 10]
    assert sizes(MixedSampler(stream, 16, 0, balance=[1, 2, 5]), [0, 1]) == [5, 11, 0]
    with pytest.raises(UserError, match="3 positive weights"):
        MixedSampler(stream, 16, 0, balance=[1, 2])
    with pytest.raises(UserError, match="3 positive weights"):
        MixedSampler(stream, 16, 0, balance=[1, 2, 0])


def test_tasks_per_batch_draws_some_of_the_tasks_and_all_of_them_in_the_end(tiny):
    sampler = MixedSampler(permuted(tiny, 6, 0), 8, 0, tasks_per_batch=2)
    chosen = [frozenset(sampler.draw(step, [0, 1, 2, 3, 5])[2].tolist()) for step in range(40)]
    assert {len(pair) for pair in chosen} == {2}
    assert frozenset.union(*chosen) == {0, 1, 2, 3, 5}
    assert len(set(chosen)) > 5
    assert sizes(sampler, [4]) == [0, 0, 0, 0, 8, 0]


@pytest.mark.parametrize("options", [{}, {"tasks_per_batch": 2}, {"balance": [1, 2, 3]}])
def test_a_mixed_batch_is_a_pure_function_of_its_number(tiny, options):
    stream = permuted(tiny, 3, 0)
    straight = MixedSampler(stream, 7, 5, **options)
    sequence = [straight.draw(step, [0, 1, 2]) for step in range(30)]
    fresh = MixedSampler(stream, 7, 5, **options).draw(29, [0, 1, 2])
    assert all(torch.equal(one, two) for one, two in zip(fresh, sequence[29], strict=True))
    other = MixedSampler(stream, 7, 6, **options).draw(29, [0, 1, 2])
    assert not torch.equal(other[0], fresh[0])


def test_a_mixed_epoch_draws_every_image_of_every_task_once(tiny):
    stream = split(tiny, 2, 0)
    sampler = MixedSampler(stream, 10, 0)
    drawn = [sampler.draw(step, [0, 1]) for step in range(4)]
    x, ids = torch.cat([x for x, _, _ in drawn]), torch.cat([ids for _, _, ids in drawn])
    for task in (0, 1):
        assert len({tuple(row.flatten().tolist()) for row in x[ids == task]}) == len(stream[task].train) == 20


def test_tasks_that_share_images_draw_them_independently(tiny):
    stream = permuted(tiny, 2, 0)
    _, y, ids = MixedSampler(stream, 60, 0).draw(0, [0, 1])
    assert y[ids == 0].tolist() != y[ids == 1].tolist()


def test_a_mixed_batch_refuses_what_it_cannot_draw(tiny):
    stream = permuted(tiny, 4, 0)
    sampler = MixedSampler(stream, 3, 0)
    for wrong in ([], [1, 1], [4], [-1]):
        with pytest.raises(UserError, match=r"different tasks out of 0\.\.3"):
            sampler.draw(0, wrong)
    with pytest.raises(UserError, match="pass tasks_per_batch"):
        sampler.draw(0, [0, 1, 2, 3])
    with pytest.raises(UserError, match=r"must be in 1\.\.3"):
        MixedSampler(stream, 3, 0, tasks_per_batch=4)


# Augmentation


def test_an_image_is_mirrored_and_shifted_as_a_loop_would(image_set):
    images = image_set(train=40, channels=2).train_images
    made = flip_crop(images, generator(1), pad=2)
    rng = generator(1)
    flips = torch.randint(0, 2, (40,), generator=rng).tolist()
    downs, rights = torch.randint(0, 5, (2, 40), generator=rng).tolist()
    side = images.shape[-1]
    for i, image in enumerate(images):
        padded = torch.zeros(2, side + 4, side + 4, dtype=torch.uint8)
        padded[:, 2:-2, 2:-2] = image
        cut = padded[:, downs[i] : downs[i] + side, rights[i] : rights[i] + side]
        assert torch.equal(made[i], cut.flip(-1) if flips[i] else cut)
    assert 0 < sum(flips) < 40


def test_a_batch_is_augmented_by_seed_task_and_step_and_only_in_training(tiny):
    stream = permuted(tiny, 2, 0)
    plain, moved = MixedSampler(stream, 6, 1), MixedSampler(stream, 6, 1, augment=flip_crop)
    (x, y, _), (a, b, _) = plain.draw(3, [0, 1]), moved.draw(3, [0, 1])
    assert torch.equal(y, b)
    assert not torch.equal(x, a)
    assert torch.equal(a, MixedSampler(stream, 6, 1, augment=flip_crop).draw(3, [0, 1])[0])
    assert not torch.equal(a, moved.draw(4, [0, 1])[0])
    apart, labels = moved.draw_apart(2, [0, 1])
    for task in (0, 1):
        alone, own, _ = MixedSampler(stream, 6, 1, augment=flip_crop).draw(2, [task])
        assert torch.equal(apart[task], alone)
        assert torch.equal(labels[task], own)


def test_a_layout_changes_no_number(image_set):
    stream = permuted(image_set(channels=3), 1, 0)
    x, _, _ = MixedSampler(stream, 4, 0).draw(0, [0])
    a, _, _ = MixedSampler(stream, 4, 0, channels_last=True).draw(0, [0])
    assert torch.equal(x, a)
    assert a.is_contiguous(memory_format=torch.channels_last)
