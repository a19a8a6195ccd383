"""What an outer step sees, a pure function of the seed and the number of the step, so that a run resumes without
replaying.

Args:
    pool: the classes that images are drawn from.
    seed: of all draws.
    step: the number of the outer step.
    tasks: T, how many tasks.
    shots: images, or points, to adapt on: per class, or per wave.
    queries: images, or points, to judge by: per class, or per wave.

"""

from typing import NamedTuple

import torch
from torch import Tensor

from neuromod.meta import Episodes
from tasks.errors import UserError
from tasks.meta.pools import Pool
from tasks.runs.seeds import generator


class Trajectory(NamedTuple):
    """What one outer step of OML or ANML sees: K images of one class, then M of any class to be remembered.

    Args:
        images: (K + M, C, H, W), float in [0, 1].
        labels: int64 (K + M,).
        steps: K, inner steps of one image each.
        row: the label of the one class, whose row of the head may be reset.

    """

    images: Tensor
    labels: Tensor
    steps: int
    row: int


def trajectory(pool: Pool, steps: int, remember: int, seed: int, step: int) -> Trajectory:
    """Images of a drawn class, and images drawn from all classes (Beaulieu et al. 2020).

    As in the paper an image to remember may be of the same class; no image of the class is held back from the outer
    loss. UserError where a class has fewer images than steps.

    Args:
        steps: images of the one class.
        remember: images of any class.

    """
    if steps > pool.each:
        raise UserError(f"a trajectory takes images of one class; got {steps} of {pool.each}; take fewer inner steps")
    rng = generator("trajectory", seed, step)
    row = int(torch.randint(len(pool), (), generator=rng))
    own = torch.randperm(pool.each, generator=rng)[:steps]
    classes = torch.randint(len(pool), (remember,), generator=rng)
    places = torch.randint(pool.each, (remember,), generator=rng)
    which = torch.cat([torch.full((steps,), row), classes]), torch.cat([own, places])
    device = pool.images.device
    return Trajectory(pool.seen(tuple(w.to(device) for w in which)), which[0].to(device), steps, row)


# reason: the numbers of an episode, by the field's names
def episodes(
    pool: Pool, ways: int, shots: int, queries: int, tasks: int, seed: int, step: int, *, turned: bool = False
) -> Episodes:
    """Few-shot tasks: trees (images (T, ways * n, C, H, W), labels (T, ways * n)), n the shots or the queries.

    Every class of a task comes as often as any other. UserError where the pool has too few classes or images.

    Args:
        ways: classes of a task.
        turned: each class of a task by some quarter turns, which makes a new character of it (Santoro et al. 2016).

    """
    if ways > len(pool) or shots + queries > pool.each:
        got = f"{ways} of {len(pool)} classes, {shots} + {queries} of {pool.each} images"
        raise UserError(f"an episode needs classes and images; got {got}; take fewer")
    parts, quarters = [], []
    for task in range(tasks):
        rng = generator("episode", seed, step, task)
        classes = torch.randperm(len(pool), generator=rng)[:ways]
        places = torch.stack([torch.randperm(pool.each, generator=rng)[: shots + queries] for _ in range(ways)])
        parts.append((classes[:, None].expand_as(places), places))
        quarters.append(torch.randint(4, (ways,), generator=rng).tolist() if turned else [0] * ways)
    device = pool.images.device
    classes, places = (torch.stack(part).to(device) for part in zip(*parts, strict=True))
    images = pool.seen((classes, places))
    if turned:
        rows = zip(images, quarters, strict=True)
        images = torch.stack([torch.stack([x.rot90(k, (-2, -1)) for x, k in zip(*row, strict=True)]) for row in rows])
    labels = torch.arange(ways, device=device)[None, :, None].expand_as(classes)

    def part(index: slice) -> tuple[Tensor, Tensor]:
        return images[:, :, index].flatten(1, 2), labels[:, :, index].flatten(1)

    return Episodes(part(slice(shots)), part(slice(shots, None)))


def sinusoids(tasks: int, shots: int, queries: int, seed: int, step: int) -> Episodes:
    """Waves ``y = a sin(x - p)``: a from U[.1, 5], p from U[0, pi], x from U[-5, 5] (Finn et al. 2017, section 5.1).

    Trees (x (T, n, 1), y (T, n, 1)).
    """
    rng = generator("sinusoids", seed, step)
    amplitude = 0.1 + 4.9 * torch.rand(tasks, 1, 1, generator=rng)
    phase = torch.pi * torch.rand(tasks, 1, 1, generator=rng)
    x = 10 * torch.rand(tasks, shots + queries, 1, generator=rng) - 5
    y = amplitude * (x - phase).sin()
    return Episodes((x[:, :shots], y[:, :shots]), (x[:, shots:], y[:, shots:]))
