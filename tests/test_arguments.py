"""What a user gives is parsed in one place."""

from typing import Any

import numpy as np
import pytest
import torch

from neuromod import arguments
from tests.refusals import refuses


@pytest.mark.parametrize("value", [3, np.int64(3), np.array(3), torch.tensor(3), np.uint8(3)])
def test_what_counts_as_an_integer(value: Any) -> None:
    assert arguments.count(value, "steps") == arguments.task_id(value) == 3
    assert type(arguments.task_id(value)) is int


@pytest.mark.parametrize(
    "value", [-1, True, np.bool_(True), 1.0, "1", None, float("nan"), [1], torch.tensor(1.0), torch.tensor([1]), 2**63]
)
def test_what_is_no_task_id(value: Any) -> None:
    with refuses("a task id is an integer of 0 or more", "got", "pass task=0"):
        arguments.task_id(value)


@pytest.mark.parametrize("value", [0, 5, True, 1.0, "3", None])
def test_a_count_has_bounds(value: Any) -> None:
    with refuses("batch must be an integer from 1 to 4", "got"):
        arguments.count(value, "batch", least=1, most=4)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", None, True, [1.0], 1 + 2j, torch.ones(2)])
def test_a_rate_is_finite_and_above_zero(value: Any) -> None:
    with refuses("lr must be a finite number above 0", "got"):
        arguments.number(value, "lr", above=0)


def test_a_share_may_stop_short_of_all() -> None:
    assert arguments.number(0.99, "jitter", least=0, below=1) == 0.99
    with refuses("jitter must be a finite number of 0 or more and below 1", "got 1.0"):
        arguments.number(1.0, "jitter", least=0, below=1)


def test_numbers_that_are_taken() -> None:
    assert arguments.number(np.float32(0.5), "lr", above=0) == 0.5
    assert arguments.number(torch.tensor(2), "lr") == 2.0
    assert arguments.floating("bfloat16") is arguments.floating(torch.bfloat16) is torch.bfloat16
    assert arguments.device("cpu") == torch.device("cpu")
    assert arguments.task_ids(torch.tensor([2, 0])) == (2, 0)


def test_names_dtypes_devices_and_lists() -> None:
    with refuses("engine must be one of", "'func'"):
        arguments.one_of("fun", "engine", ("func", "autograd"))
    with refuses("dtype must be one of", "torch.int64"):
        arguments.floating(torch.int64)
    with refuses("a device must exist here", "'abacus'"):
        arguments.device("abacus")
    with refuses("task ids are distinct", "3 twice"):
        arguments.task_ids([3, 3])
    with refuses("task ids come in a list", "'01'"):
        arguments.task_ids("01")
    with refuses("vmap must be True or False", "1"):
        arguments.flag(1, "vmap")
