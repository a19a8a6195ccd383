"""The three scenarios of hypernetworks for continual learning, from what task inference found."""

from typing import Any

from tasks.continual.measures.rules import check_method
from tasks.continual.streams import Stream
from tasks.experiment import Bench


def measure(learner: Any, stream: Stream, bench: Bench, *, method: str = "brute_force") -> dict[str, float] | None:
    """The scenarios of von Oswald et al. 2020 (section 4) from what one method found, accuracies in [0, 1] on the same
    images.

    CL1: the task is known. CL2: it is inferred, and tasks share their classes. CL3: it is inferred, and every task has
    classes of its own, so that both must be right. By ``brute_force`` the task is that of least entropy (HNET+ENT).
    None where the measure ``inference`` was not given that method.

    Args:
        method: one of those of the measure ``inference``.

    """
    found = (bench.measured.get("inference") or {}).get(method)
    return found and {"CL1": found["known"], "CL2": found["class"], "CL3": found["task_and_class"]}


def check_options(method: str = "brute_force") -> None:
    """Refuse an unknown method before the training at whose end it is asked for."""
    check_method(method)
