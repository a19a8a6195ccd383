"""HopSupSup's protocol: recall the task of an unlabelled test set from an associative memory (Wortsman et al. 2020)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuromod import Modulated
from neuromod.inference import Hopfield, entropy, gated_logits, recall
from neuromod.inference.hopfield import GAMMA, RATE
from tasks.continual.streams import Stream
from tasks.runs.seeds import generator

BATCH = 128


class Settings(NamedTuple):
    """How recall is run; of several starts (orders of the images) the state of the lowest mean entropy is kept.

    Args:
        rate: step size of the state, > 0.
        gamma: weight of the memory's energy beside the entropy of the outputs, > 0.
        starts: orders of the images that are tried, 1 or more.

    """

    rate: float = RATE
    gamma: float = GAMMA
    starts: int = 1


SETTINGS: Mapping[str, Settings] = MappingProxyType(
    {
        "hopfield": Settings(),
        # Energy alone draws every state to the pattern that is stored most deeply: a third of its weight.
        "hopfield_remedy": Settings(gamma=5e-4, starts=3),
    }
)


def task_recall(model: Modulated, stream: Stream, name: str, seed: int) -> dict[str, Any]:
    """What recall is worth over the tasks of a stream; a query is the whole test set of a task (Wortsman et al. 2020,
    HopSupSup).

    ``image``: share of tasks whose own pattern is nearest to the state that was recalled. ``class``: mean class
    accuracy of the same test sets under that state itself (GNs), ``lowest`` the least. ``known``: with the task known.
    ``failed``: recalls that end at another task's pattern. ``snapped``: class accuracy under the nearest pattern in the
    place of the state. ``agreement``: the lowest share of units on which a state agrees with its nearest pattern.
    ``disjoint`` and ``disjoint_snapped``: the state is recalled from a random half and scored on the other.

    Args:
        name: a method of `SETTINGS`.

    """
    memory = Hopfield.of(model)
    found: list[int] = []
    whole, disjoint, known, snapped, apart, agreement = [], [], [], [], [], []
    for number, task in enumerate(stream):
        rng = generator("recall", seed, number)
        order = torch.randperm(len(task.test), generator=rng).to(task.test.images.device)
        x, y = task.view(task.test.images[order]), task.test.labels[order]
        half = (len(x) + 1) // 2
        z = _recall(model, x, memory, SETTINGS[name], rng)
        part = _recall(model, x[:half], memory, SETTINGS[name], rng)
        found.append(memory.nearest(z))
        agreement.append(memory.agreement(z).max().item())
        whole.append(_right(model, z, x, y))
        disjoint.append(_right(model, part, x[half:], y[half:]))
        apart.append(_right(model, _stored(memory, memory.nearest(part)), x[half:], y[half:]))
        snapped.append(_right(model, _stored(memory, found[-1]), x, y))
        known.append(_right(model, _stored(memory, number), x, y))
    failed = sum(guess != number for number, guess in enumerate(found))
    count = len(stream)
    return {
        "image": 1 - failed / count,
        "class": sum(whole) / count,
        "lowest": min(whole),
        "snapped": sum(snapped) / count,
        "known": sum(known) / count,
        "disjoint": sum(disjoint) / count,
        "disjoint_snapped": sum(apart) / count,
        "failed": failed,
        "recalled": found,
        "agreement": min(agreement),
        "memory_bytes": memory.bytes(),
    }


def _recall(model: Modulated, x: Tensor, memory: Hopfield, settings: Settings, rng: torch.Generator) -> Tensor:
    """The state recalled from images; the first start takes them in their order, each other one in an order of its own."""
    best, least = memory.mean(), float("inf")
    for start in range(settings.starts):
        order = torch.randperm(len(x), generator=rng).to(x.device) if start else slice(None)
        z = recall(model, x[order].split(BATCH), memory, rate=settings.rate, gamma=settings.gamma)
        with torch.no_grad():
            doubt = float(entropy(gated_logits(model, z, x)).mean())
        if doubt < least:
            best, least = z, doubt
    return best


def _stored(memory: Hopfield, task: int) -> Tensor:
    return memory.patterns[memory.tasks.index(task)]


@torch.no_grad()
def _right(model: Modulated, z: Tensor, x: Tensor, y: Tensor) -> float:
    """Class accuracy under a state."""
    return (gated_logits(model, z, x).argmax(1) == y).double().mean().item()
