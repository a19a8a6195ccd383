"""Numbers written into the row of a task."""

import pytest
import torch
from torch import nn

from neuromod import Affine, Modulated, Modulator, RefusedError, Table, Target, give


def gains() -> Modulator:
    target = Target(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU()), torch.ones(2, 3))
    modulator = Modulator(Affine(), Table(2), target.outputs(nn.ReLU))
    Modulated(target, modulator)
    return modulator


def test_the_row_of_one_task_at_one_site_is_written() -> None:
    modulator = gains()
    before = {task: {k: v.clone() for k, v in modulator.source.own(task).items()} for task in (0, 1)}
    give(modulator, 1, {"gain": torch.arange(4.0)}, modulator.sites[1])
    after = {task: modulator.source.own(task) for task in (0, 1)}
    changed = {(t, k) for t in (0, 1) for k in before[t] if not torch.equal(before[t][k], after[t][k])}
    assert changed == {(1, "3/gain")}
    assert after[1]["3/gain"].tolist() == [0, 1, 2, 3]


def test_what_a_row_does_not_take() -> None:
    modulator = gains()
    site = modulator.sites[0]
    for call, words in (
        (lambda: give(modulator, 0, {"gian": torch.ones(4)}, site), "got 'gian'"),
        (lambda: give(modulator, 0, {"gain": torch.ones(5)}, site), "takes numbers"),
        (lambda: give(modulator, 0, {"gain": torch.full((4,), torch.nan)}, site), "finite"),
        (lambda: give(modulator, 9, {"gain": torch.ones(4)}, site), "a task must be live"),
        (lambda: give(modulator, 0, {"gain": torch.ones(4)}), "name one"),
    ):
        with pytest.raises(RefusedError, match=words):
            call()


def test_numbers_are_given_all_or_none() -> None:
    modulator = gains()
    before = modulator.source.own(0)["1/gain"].clone()
    with pytest.raises(RefusedError, match="'bias' has NaN"):
        give(modulator, 0, {"gain": torch.full((4,), 2.0), "bias": torch.full((4,), torch.nan)}, modulator.sites[0])
    assert torch.equal(modulator.source.own(0)["1/gain"], before)
