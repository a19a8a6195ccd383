"""HopSupSup's protocol: recall the task of an unlabelled test set from an associative memory (Wortsman et al. 2020)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from neuromod import Modulated
from neuromod.inference import Hopfield, gated, recall
from neuromod.inference.hopfield import GAMMA
from tasks.seeds import generator
from tasks.streams import Stream

GAMMAS: Mapping[str, float] = MappingProxyType({"hopfield": GAMMA, "hopfield_remedy": 4e-3})
BATCH = 128


def recalled(model: Modulated, stream: Stream, name: str, seed: int) -> dict[str, Any]:
    """What recall by a method of `GAMMAS` is worth, over the tasks of a stream; a query is the whole test set of a task.

    ``image``: share of tasks whose own pattern is nearest to the state that was recalled. ``class``: mean class accuracy of
    the same test sets under that state itself (GNs), ``lowest`` the least. ``known``: with the task told. ``failed``: recalls
    that end at another task's pattern. ``agreement``: the lowest share of units on which a state agrees with its nearest
    pattern. ``disjoint``: the state is recalled from a random half and scored on the other.
    """
    memory = Hopfield.of(model)
    found: list[int] = []
    whole, disjoint, known, agreement = [], [], [], []
    for number, task in enumerate(stream):
        rng = generator("recall", seed, number)
        order = torch.randperm(len(task.test), generator=rng).to(task.test.images.device)
        x, y = task.view(task.test.images[order]), task.test.labels[order]
        half = (len(x) + 1) // 2

        z = recall(model, x.split(BATCH), memory, gamma=GAMMAS[name])
        part = recall(model, x[:half].split(BATCH), memory, gamma=GAMMAS[name])
        found.append(memory.nearest(z))
        agreement.append(memory.agreement(z).max().item())
        whole.append(_right(model, z, x, y))
        disjoint.append(_right(model, part, x[half:], y[half:]))
        known.append(_right(model, memory.patterns[memory.tasks.index(number)], x, y))
    failed = sum(guess != number for number, guess in enumerate(found))
    count = len(stream)
    return {
        "image": 1 - failed / count,
        "class": sum(whole) / count,
        "lowest": min(whole),
        "known": sum(known) / count,
        "disjoint": sum(disjoint) / count,
        "failed": failed,
        "recalled": found,
        "agreement": min(agreement),
        "memory_bytes": memory.bytes(),
    }


@torch.no_grad()
def _right(model: Modulated, z: Tensor, x: Tensor, y: Tensor) -> float:
    """Class accuracy under a state."""
    return (gated(model, z, x).argmax(1) == y).double().mean().item()
