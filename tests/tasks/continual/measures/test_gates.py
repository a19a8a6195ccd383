"""Pictures of a model against loops over single images."""

import math
from typing import Any

import pytest
import torch

from neuromod import Modulated, Target
from tasks.continual.learners import Modulated as Learner
from tasks.continual.learners.modulated import modulated
from tasks.continual.measures import gates
from tasks.continual.streams import Split, Stream, Task, permuted, questions
from tasks.networks import mlp
from tests.tasks.setup import bench

SOURCES = {
    "task": {"_target_": "neuromod.Table", "tasks": 1},
    "nothing": {"_target_": "neuromod.Table", "tasks": None},
    "condition": {"_target_": "neuromod.Hypernet", "reads": "condition", "labels": 1, "hidden": 4},
    "input": {"_target_": "neuromod.Hypernet", "reads": "input", "hidden": 4},
    "activation": {"_target_": "neuromod.Hypernet", "reads": "activation:1", "hidden": 4},
}


def gated(stream: Stream, source: str, form: str = "sigmoid") -> Modulated:
    """A small network with gates behind its two norms, moved away from their start."""
    example = stream[0].view(stream[0].train.images[:2])
    rng = torch.Generator().manual_seed(0)
    net = mlp(stream.shape, 4, (5, 6), norm="layer")
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=rng))
    kind = {"_target_": "neuromod.Gate", "form": form}
    config = {"gate": {"kind": kind, "source": SOURCES[source], "sites": {"norms": "*"}}}
    model = modulated(Target(net, example), config, tasks=len(stream), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=rng)
    return model.eval()


def pictures(model: Modulated, stream: Stream) -> Any:
    return gates.measure(Learner.of(model), stream, bench(0))


def gate_of(model: Modulated, x: torch.Tensor, task: int) -> list[float]:
    """The gate of the first norm on one image: the first thing that its output is multiplied by."""
    said = {"task": task, "condition": task}
    rows = model.rows(x, **{key: value for key, value in said.items() if key in model.reads})["gate"]
    return [1 / (1 + math.exp(-code)) for code in rows.row(0)["2/code"].tolist()]


@pytest.mark.parametrize("source", SOURCES)
def test_gates_are_means_over_the_test_images_of_a_task_and_of_a_class(source: str, image_set: Any) -> None:
    stream = permuted(image_set(test=70, classes=5), 3, 0)
    model = gated(stream, source)
    found = pictures(model, stream)
    of_task: list[list[list[float]]] = [[] for _ in range(3)]
    of_class: list[list[list[float]]] = [[] for _ in range(5)]
    for number, task in enumerate(stream):
        for image, label in zip(task.test.images, task.test.labels.tolist(), strict=True):
            gate = gate_of(model, task.view(image[None]), number)
            of_task[number].append(gate)
            of_class[label].append(gate)
    for grid, slow in ((found["by_task"], of_task), (found["by_class"], of_class)):
        expected = [[sum(column) / len(column) for column in zip(*gates, strict=True)] for gates in slow]
        torch.testing.assert_close(torch.tensor(grid), torch.tensor(expected), rtol=0, atol=2e-4)
    rows = {tuple(row) for row in found["by_task"]}
    assert len(rows) == (1 if source == "nothing" else 3)


def test_a_class_without_images_is_not_measured_and_a_sorted_split_is_seen_whole(image_set: Any) -> None:
    images = image_set(train=1000, test=1000, classes=5, height=4, width=4)
    order = images.test_labels.argsort(stable=True)
    order = order[images.test_labels[order] != 2]
    test = Split(images.test_images[order], images.test_labels[order])
    plain = permuted(images, 1, 0)
    task = Task("sorted", plain[0].train, test, plain[0].view, 5)
    stream = Stream("sorted", (task,), images, 0, plain.shape, 5)
    rows = pictures(gated(stream, "input"), stream)["by_class"]
    assert [None in row for row in rows] == [False, False, True, False, False]
    assert rows[2] == [None] * 5


def test_the_gate_of_a_question_follows_the_condition(tiny: Any) -> None:
    stream = questions(tiny, 2, 0)
    model = gated(stream, "condition", "hard")
    found = pictures(model, stream)
    assert {value for row in found["by_task"] for value in row} <= {0.0, 1.0}
    assert found["by_task"][0] != found["by_task"][1]
    # The same number of images a question, so that the class rows lie between the two.
    middle = [(a + b) / 2 for a, b in zip(*found["by_task"], strict=True)]
    mean = torch.tensor(found["by_class"][0])
    assert ((mean - torch.tensor(middle)).abs() <= 0.5).all()


def test_a_model_without_gates_has_no_picture_of_them(tiny: Any) -> None:
    stream = permuted(tiny, 2, 0)
    net = mlp(stream.shape, 4, (5,), norm="layer")
    config = {"affine": {"kind": {"_target_": "neuromod.Affine"}, "source": SOURCES["task"], "sites": {"norms": "*"}}}
    target = Target(net, stream[0].view(tiny.train_images[:2]))
    assert pictures(modulated(target, config, tasks=2, seed=0).eval(), stream) is None
