"""One batch of unlabelled images from several tasks, routed and classified in one call, as a picture."""

from collections.abc import Sequence
from typing import Any

import torch

from neuromod.inference import predict
from tasks.continual import learners
from tasks.continual.measures.inference import learned_predictor
from tasks.continual.measures.rules import is_predictor, rule_of
from tasks.continual.streams import Stream
from tasks.experiment import Bench
from tasks.report import figures
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.table import percent
from tasks.runs.seeds import generator

BATCH, SHOWN = 256, 24


@torch.no_grad()
def measure(learner: Any, stream: Stream, bench: Bench) -> dict[str, Any] | None:
    """``task`` and ``found`` (B,), ``label`` and ``answer`` (B,) of a batch in a drawn order; pictures of its first images.

    ``right`` is the share whose task and class are both right. By the ``method`` that found both most often, of those that
    the measure ``inference`` was given; None where it was given none.
    """
    inference = bench.measured.get("inference") or {}
    methods = {name: one["task_and_class"] for name, one in inference.items() if "task_and_class" in one}
    if not methods or not isinstance(learner, learners.Modulated):
        return None
    model, seed = learner.model, bench.seeds["sampling"]
    best = max(methods, key=lambda name: methods[name])
    by: Any
    options: dict[str, Any]
    if is_predictor(best):
        by, options = learned_predictor(best, stream, bench, {}), {}
    else:
        by, options = rule_of(model, stream, best, len(stream), seed)
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
    batch = predict(model, torch.cat(xs), by, **options)
    found, answer = batch.task.tolist(), batch.logits.argmax(1).tolist()
    right = [a == b and c == d for a, b, c, d in zip(tasks, found, labels, answer, strict=True)]
    return {
        "method": best,
        "task": tasks,
        "found": found,
        "label": labels,
        "answer": answer,
        "right": sum(right) / BATCH,
        "images": [image.round().int().tolist() for image in images[:SHOWN]],
    }


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """The first images of a mixed batch, and where they were sent."""
    panels = []
    for i, run in enumerate(runs):
        if not (batch := run.measure("mixed")):
            continue
        images = batch["images"]
        rows = list(zip(*(batch[key][: len(images)] for key in ("task", "found", "label", "answer")), strict=True))
        titles = [f"{task + 1} \u2192 {found + 1}: {answer}" for task, found, _, answer in rows]
        wrong = [task != found or label != answer for task, found, label, answer in rows]
        label = f"Images of a mixed batch of {names[i]}, the task that was found and the class"
        svg = figures.pictures(f"mixed-{i}", label, images, titles, (0.0, 255.0), marked=wrong)
        note = f"By {batch['method']}: task and class of {percent(batch['right'])} % of {len(batch['task'])} images are right."
        panels.append(Panel(names[i], looks_of(runs)[i][0], svg, note))
    caption = (
        "The first images of one unlabelled batch from several tasks, routed and classified in one call: the true task, "
        "the task that was found, the class that was answered. A heavy frame is where one of them is wrong. Images are "
        "shown as they were before the view of their task."
    )
    return [Section("mixed", "One batch, many tasks", caption, tuple(panels))] if panels else []
