"""The three scenarios of continual learning, counted image by image."""

from pathlib import Path
from typing import Any

import pytest
import torch

from neuromod import Affine, Hypernet, Modulated, Modulator, Target
from tasks.config.load import load
from tasks.continual.measures import scenarios
from tasks.continual.measures.inference import QueryPlan, task_inference
from tasks.continual.streams import permuted
from tasks.data.load import load as load_images
from tasks.experiment import execute
from tasks.networks import mlp
from tasks.runs.files import read_json
from tasks.runs.seeds import generator
from tests.tasks.setup import bench

FILM = ["experiment=demo/film", "data=tiny", "target.kwargs.hidden=[16]", "device=cpu", "stream.tasks=3", "outputs=10"]
FILM += ["batch=16", "optimizer.lr=0.05", "steps=20", "log_every=5", "save_every=8", "regulariser.beta=3.0"]


def test_the_scenarios_are_counted_image_by_image(data: str) -> None:
    images = load_images("tiny", root=data.removeprefix("data.root=").strip("'"), download=False)
    stream = permuted(images, 3, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = Target(mlp(stream.shape, 10, (16,), norm="layer"), stream[0].view(stream[0].test.images[:2]))
    model = Modulated(target, Modulator(Affine(), Hypernet("task", tasks=3), target.norms(), seed=0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.6 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    found = task_inference(model, stream, QueryPlan(30, (2,)), ["brute_force"], {}, 5)
    counts, total = {"CL1": 0, "CL2": 0, "CL3": 0}, 0
    for number, task in enumerate(stream):
        drawn = torch.randperm(len(task.test), generator=generator("queries", 5, number))[:30]
        for x, y in zip(task.view(task.test.images[drawn]), task.test.labels[drawn].tolist(), strict=True):
            with torch.no_grad():
                probabilities = [model(x[None], task=t).double().softmax(-1)[0] for t in range(3)]
            entropies = [float(torch.special.entr(p).sum()) for p in probabilities]
            guess = entropies.index(min(entropies))
            right = int(probabilities[guess].argmax()) == y
            counts["CL1"] += int(probabilities[number].argmax()) == y
            counts["CL2"] += right
            counts["CL3"] += right and guess == number
            total += 1
    place = bench()
    place.measured["inference"] = found
    assert scenarios.measure(None, stream, place) == {
        key: pytest.approx(value / total) for key, value in counts.items()
    }
    assert 0 < counts["CL3"] < counts["CL2"]
    assert counts["CL1"] != counts["CL2"]


def result_of(root: Path, data: str, *overrides: str) -> Any:
    folder = execute(load([*FILM, data, *overrides]), root=root, command=["train"], results=root)
    return read_json(folder / "result.json")


def test_a_result_has_its_scenarios_where_tasks_are_inferred_by_entropy(data: str, tmp_path: Path) -> None:
    whole = result_of(tmp_path, data, "inference.methods=[brute_force]", "inference.images=1000")
    measures = whole["measures"]
    assert measures["scenarios"]["CL1"] == pytest.approx(whole["value"])
    assert measures["scenarios"]["CL2"] == measures["inference"]["brute_force"]["class"]
    assert measures["scenarios"]["CL2"] >= measures["scenarios"]["CL3"]
    assert "scenarios" not in result_of(tmp_path, data, "inference.methods=[one_shot]")["measures"]
