"""One batch of unlabelled images from several tasks, routed and classified in one call, as a picture."""

from collections.abc import Mapping
from typing import Any

import torch

from neuromod import Modulated
from neuromod.inference import Rule, predict
from neuromod.inference.routers import Router
from tasks.continual.streams import Stream
from tasks.runs.seeds import generator

BATCH, SHOWN = 256, 24


@torch.no_grad()
def mixed(model: Modulated, stream: Stream, by: Rule | Router, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """``task`` and ``found`` (B,), ``label`` and ``answer`` (B,) of a batch in a drawn order; pictures of its first images.

    ``right`` is the share whose task and class are both right; ``options`` are those of `neuromod.inference.predict`.
    """
    rng = generator("mixed", seed)
    tasks = torch.randint(len(stream), (BATCH,), generator=rng).tolist()
    xs, images, labels = [], [], []
    for number in tasks:
        task = stream[number]
        place = int(torch.randint(len(task.test), (), generator=rng))
        image = task.test.images[place : place + 1]
        xs.append(task.view(image))
        images.append(image[0].float().mean(0))
        labels.append(int(task.test.labels[place]))
    made = predict(model, torch.cat(xs), by, **options)
    found, answer = made.task.tolist(), made.logits.argmax(1).tolist()
    right = [a == b and c == d for a, b, c, d in zip(tasks, found, labels, answer, strict=True)]
    return {
        "task": tasks,
        "found": found,
        "label": labels,
        "answer": answer,
        "right": sum(right) / BATCH,
        "images": [image.round().int().tolist() for image in images[:SHOWN]],
    }
