"""How well the network tells which task an unlabelled image belongs to."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from neuromod import Modulated
from neuromod.inference import brute_force, one_shot
from tasks.errors import UserError, nearest
from tasks.streams import Stream

METHODS = {"one_shot": one_shot, "brute_force": brute_force}


def check_methods(methods: Sequence[str]) -> None:
    """Refuse an unknown method: before the training whose end would use it."""
    for name in methods:
        if name not in METHODS:
            raise UserError(
                f"a method of task inference must be known; got {name!r}; nearest: {nearest(name, METHODS)}"
            )


def inferred(model: Modulated, stream: Stream, *, methods: list[str], images: int, group: int) -> dict[str, Any]:
    """For each method: task accuracy for single images and for groups that share a task, class accuracy end to end.

    Beside it, on the same images: class accuracy where the task is known, and where task and class must both be right.
    The first ``images`` test images of each task are used. ``confusion`` (T, T): the share of images of task i that are
    taken for task j. Scores are computed image by image; a group sums them, so nothing depends on the batch.
    """
    return {name: _measure(model, stream, name, images, group) for name in methods}


def scenarios(found: Mapping[str, Any]) -> dict[str, float]:
    """The scenarios of von Oswald et al. 2020 (section 4) from what one method found, on the same images.

    CL1: the task is known. CL2: it is inferred, and tasks share their classes. CL3: it is inferred, and every task has
    classes of its own, so that both must be right. By ``brute_force`` the task is that of least entropy (HNET+ENT).
    """
    return {"CL1": found["known"], "CL2": found["class"], "CL3": found["task_and_class"]}


def _measure(model: Modulated, stream: Stream, name: str, images: int, group: int) -> dict[str, Any]:
    tasks = list(range(len(stream)))
    confusion = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
    right_group, right_class, right_known, right_both, groups, count = 0, 0, 0, 0, 0, 0
    for number, task in enumerate(stream):
        x, y = task.view(task.test.images[:images]), task.test.labels[:images]
        scores = torch.cat([METHODS[name](model, part, tasks=tasks) for part in x.split(250)])
        guess = scores.argmax(1)
        confusion[number] = torch.bincount(guess.cpu(), minlength=len(tasks)).double() / len(y)
        whole = scores[: len(y) // group * group].reshape(-1, group, len(tasks)).sum(1).argmax(1)
        right_group, groups = right_group + int((whole == number).sum()), groups + len(whole)
        right = _right(model, x, y, guess)
        right_class, right_both = right_class + int(right.sum()), right_both + int((right & (guess == number)).sum())
        right_known, count = right_known + int(_right(model, x, y, number).sum()), count + len(y)
    return {
        "image": float(confusion.diagonal().mean()),
        "group": right_group / max(groups, 1),
        "group_size": group,
        "class": right_class / count,
        "known": right_known / count,
        "task_and_class": right_both / count,
        "images_per_task": images,
        "confusion": [[round(v, 6) for v in row] for row in confusion.tolist()],
    }


@torch.no_grad()
def _right(model: Modulated, x: Tensor, y: Tensor, task: int | Tensor) -> Tensor:
    """Which images are classified right under the task of each: bool (B,)."""
    return model(x, task=task).argmax(1) == y  # type: ignore[no-any-return]
