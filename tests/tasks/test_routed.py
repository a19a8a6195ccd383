"""A router over the sealed tasks of a finished run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from neuromod import Mixture
from tasks.config.load import load
from tasks.continual.learners.routed import bank_config, restore, routed
from tasks.continual.make import make_learner, make_stream, make_target
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.report import write
from tasks.runs.files import read_json
from tasks.runs.seeds import seeds
from tests.images import write as write_images
from tests.test_configs import SMALL


def asked(root: Path, *overrides: str) -> dict[str, Any]:
    data = write_images(root / "data", "mnist")
    return load(["experiment=routing/mixture", *SMALL, f"data.root='{data}'", *overrides])


def bank(config: dict[str, Any]) -> dict[str, Any]:
    return bank_config(config, lambda given: load([*given, "steps=2", "batch=8", "inference.methods=[]"]))


def test_a_router_mixes_the_masks_that_the_bank_learned(tmp_path: Path) -> None:
    config = asked(tmp_path, "router.form=hard")
    told = bank(config)
    folder = execute(told, root=tmp_path, command=["train"])
    derived = seeds(0)
    stream = make_stream(config, derived)
    target = make_target(config, stream, derived)
    trained = make_learner(told, target, stream, derived)
    restore(trained, folder)
    x = stream[0].view(stream[0].test.images[:4])
    with torch.no_grad():
        expected = [trained(x, task) for task in range(len(stream))]
        model = routed(trained.model, config, derived["source"]).eval()
        source = model.modulators["threshold"].source
        assert isinstance(source, Mixture)
        for task, logits in enumerate(expected):
            source.router["bias"].copy_(torch.nn.functional.one_hot(torch.tensor(task), len(stream)))
            assert torch.allclose(model(x), logits, atol=1e-6)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)


def test_routing_is_a_picture_of_the_report(tmp_path: Path) -> None:
    folder = execute(asked(tmp_path), root=tmp_path, command=["train"], results=tmp_path)
    result = read_json(folder / "result.json")
    weights = torch.tensor(result["routing"]["weights"])
    assert weights.shape == (2, 2)
    assert torch.allclose(weights.sum(1), torch.ones(2), atol=1e-3)
    assert result["parameters_per_task"] == 0
    assert "Which expert for which task?" in write([folder], tmp_path / "page.html", "t", []).read_text()
    again = execute(asked(tmp_path), root=tmp_path, command=["train"], results=tmp_path)
    assert again == folder


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"bank": None}, "pass bank=EXPERIMENT"),
        ({"router": {"form": "softmax", "hiden": 3}}, "nearest: .hidden"),
        ({"bank": "routing/banc"}, "routing/bank"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        bank(asked(tmp_path) | changed)


def test_the_bank_is_trained_on_what_the_router_sees(tmp_path: Path) -> None:
    told = bank(asked(tmp_path, "stream.tasks=3", "seed=4"))
    assert (told["stream"]["tasks"], told["seed"], told["method"]) == (3, 4, "modulated")


def test_a_router_needs_tasks_and_modulators_that_read_them(tmp_path: Path) -> None:
    config = asked(tmp_path, "stream.tasks=2")
    derived = seeds(0)
    stream = make_stream(config, derived)
    target = make_target(config, stream, derived)
    film = load(["experiment=demo/gate", "stream.tasks=2"])
    trained = make_learner(film, target, stream, derived)
    with pytest.raises(UserError, match="gate reads input"):
        routed(trained.model, config, 0)
    with pytest.raises(UserError, match="start it with execute"):
        make_learner(config, target, stream, derived)
