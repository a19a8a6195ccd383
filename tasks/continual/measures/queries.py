"""Questions to a network whose task nobody says, and what answers are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuromod import Modulated
from tasks.continual.streams import Stream
from tasks.runs.seeds import generator

SHOWN = 50  # tasks up to which a result holds the confusion of every pair


@dataclass(frozen=True, eq=False)
class Queries:
    """Test images of every task, drawn at random, whose task a method is to infer; task by task, as many of each.

    Args:
        x: inputs (N, ...), as their own task's view gives them.
        y: labels int64 (N,).
        task: the true task int64 (N,), ascending.
        each: images per task, so that N is the number of tasks times ``each``.

    """

    x: Tensor
    y: Tensor
    task: Tensor
    each: int

    @property
    def tasks(self) -> int:
        """How many of the first tasks the images are from, and a method has to choose from."""
        return len(self.x) // self.each

    @classmethod
    def draw(cls, stream: Stream, images: int, seed: int, tasks: int | None = None) -> "Queries":
        """Images of each of the first tasks, in a drawn order.

        Args:
            images: per task; all tasks give as many as the smallest test set has where that is fewer.
            tasks: the first so many; None: all.

        """
        some = stream.tasks[:tasks]
        count = min(images, *(len(task.test) for task in some))
        xs, ys, ids = [], [], []
        for number, task in enumerate(some):
            order = torch.randperm(len(task.test), generator=generator("queries", seed, number))[:count]
            order = order.to(task.test.images.device)
            xs.append(task.view(task.test.images[order]))
            ys.append(task.test.labels[order])
            ids.append(torch.full_like(ys[-1], number))
        return cls(torch.cat(xs), torch.cat(ys), torch.cat(ids), count)


def judge(model: Modulated, queries: Queries, guess: Tensor, grouped: Mapping[int, Tensor]) -> dict[str, Any]:
    """What inferred tasks are worth, as shares in [0, 1].

    ``image``: share of images whose task is found. ``class``: class accuracy under the task that was found (GNs of
    Wortsman et al. 2020, shared labels). ``task_and_class``: task and class both right (GNu, labels of each task its
    own). ``known``: class accuracy where the task is known (GG), on the same images. ``groups``: share of groups whose
    task is found, per size. ``confusion`` (T, T), rows the true task, for up to 50 tasks.

    Args:
        queries: the images.
        guess: the inferred task of each image, int64 (N,).
        grouped: per size of a group, the inferred task of each group, (N // size,) in the order of the images.

    """
    guess = guess.to(queries.task.device)
    hit = guess == queries.task
    right = classes_under(model, queries.x, guess) == queries.y
    known = right if bool(hit.all()) else classes_under(model, queries.x, queries.task) == queries.y
    result: dict[str, Any] = {
        "image": float(hit.double().mean()),
        "class": float(right.double().mean()),
        "task_and_class": float((right & hit).double().mean()),
        "known": float(known.double().mean()),
        "images_per_task": queries.each,
    }
    sizes = {}
    for size, answer in grouped.items():
        truth = queries.task.view(-1, queries.each)[:, : queries.each // size * size].reshape(-1, size)[:, 0]
        sizes[str(size)] = float((answer.to(truth.device) == truth).double().mean())
    result |= {"groups": sizes}
    if queries.tasks <= SHOWN:
        confusion = torch.zeros(queries.tasks, queries.tasks, dtype=torch.float64)
        confusion.index_put_((queries.task.cpu(), guess.cpu()), torch.ones(len(guess)).double(), accumulate=True)
        result["confusion"] = [[round(v, 6) for v in row] for row in (confusion / queries.each).tolist()]
    return result


@torch.no_grad()
def classes_under(model: Modulated, x: Tensor, task: Tensor, chunk: int = 100_000) -> Tensor:
    """The class of each image, int64 (B,), under the task that stands beside it.

    Args:
        x: inputs (B, ...).
        task: int64 (B,).
        chunk: images per forward.

    """
    parts = [model(a, task=b).argmax(1) for a, b in zip(x.split(chunk), task.split(chunk), strict=True)]
    return torch.cat(parts)


def lead(scores: Tensor, task: Tensor) -> float | None:
    """How far the score of the true task stands above the best other, in standard deviations of the others; the mean.

    Scores (B, k), true places (B,). None where a method does not score every task, or there are fewer than three.
    """
    if scores.shape[1] < 3 or not bool(torch.isfinite(scores).all()):
        return None
    own = scores.gather(1, task[:, None])
    others = scores.scatter(1, task[:, None], float("nan"))
    rest = others[~others.isnan()].view(len(scores), -1)
    return float(((own.squeeze(1) - rest.amax(1)) / rest.std(1).clamp(min=1e-30)).double().mean())


def by_group(scores: Tensor, queries: Queries, size: int) -> Tensor:
    """The best task of every group of images of one task, their scores summed: places int64 (groups,).

    Args:
        scores: (N, k), one column per task, the larger the better.
        queries: the N images; what is left over of a task after whole groups is not used.
        size: images per group, at most ``queries.each``.

    """
    whole = scores.unflatten(0, (-1, queries.each))[:, : queries.each // size * size]
    best: Tensor = whole.reshape(-1, size, scores.shape[1]).sum(1).argmax(1)
    return best
