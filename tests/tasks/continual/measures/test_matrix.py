import math

import pytest
import torch

from tasks.continual.measures.matrix import (
    average_accuracy,
    averages,
    backward_transfer,
    forgetting,
    forward_transfer,
    unmeasured,
)

R = torch.tensor([[0.9, 0.2, 0.1], [0.7, 0.8, 0.3], [0.4, 0.9, 0.6]], dtype=torch.float64)
B = torch.tensor([0.5, 0.1, 0.2], dtype=torch.float64)


def test_each_number_equals_its_equation_written_out():
    assert average_accuracy(R) == pytest.approx((0.4 + 0.9 + 0.6) / 3)
    assert backward_transfer(R) == pytest.approx(((0.4 - 0.9) + (0.9 - 0.8)) / 2)
    assert forward_transfer(R, B) == pytest.approx(((0.2 - 0.1) + (0.3 - 0.2)) / 2)
    assert forgetting(R) == pytest.approx(((0.9 - 0.4) + (0.8 - 0.9)) / 2)


def test_forgetting_counts_from_the_best_row_and_not_from_the_diagonal():
    matrix = R.clone()
    matrix[1, 0] = 0.95
    assert forgetting(matrix) == pytest.approx(((0.95 - 0.4) + (0.8 - 0.9)) / 2)
    assert backward_transfer(matrix) == backward_transfer(R)


def test_forgetting_passes_over_entries_that_were_not_measured():
    matrix = R.clone()
    matrix[0, 1] = math.nan
    matrix[0, 2] = math.nan
    assert forgetting(matrix) == forgetting(R)
    assert forward_transfer(matrix, B) is None


def test_a_joint_training_has_an_average_and_nothing_else():
    matrix = unmeasured(3)
    matrix[-1] = R[-1]
    expected = {"average_accuracy": average_accuracy(R)}
    assert averages(matrix, B) == expected | dict.fromkeys(("backward_transfer", "forward_transfer", "forgetting"))


def test_one_task_has_an_average_and_nothing_else():
    one = torch.tensor([[0.75]])
    expected = {"average_accuracy": 0.75}
    assert averages(one, torch.tensor([0.1])) == expected | dict.fromkeys(
        ("backward_transfer", "forward_transfer", "forgetting")
    )


def test_the_averages_without_an_initial_accuracy_lacks_forward_transfer_only():
    assert [name for name, value in averages(R).items() if value is None] == ["forward_transfer"]


def test_an_incomplete_last_row_names_the_tasks():
    matrix = R.clone()
    matrix[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"tasks \[1\]"):
        average_accuracy(matrix)


@pytest.mark.parametrize("matrix", [R * 100, -R, R[:2], torch.empty(0, 0)])
def test_what_is_not_a_matrix_of_accuracies_is_refused(matrix):
    with pytest.raises(ValueError, match=r"accuracies lie in|is \(T, T\)"):
        average_accuracy(matrix)


def test_initial_accuracies_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\); got \(2,\)"):
        forward_transfer(R, B[:2])
