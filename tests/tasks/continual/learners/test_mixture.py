"""A router over the sealed tasks of a finished run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from neuromod import Mixture
from tasks.commands.draws import draws
from tasks.config.load import load
from tasks.continual.learners.mixture import bank_config, mixture_of
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.report import write
from tasks.runs.files import read_json
from tests.images import write as write_images
from tests.tasks.setup import SMALL, learner_of, stream_of


def config_of(root: Path, *overrides: str) -> dict[str, Any]:
    data = write_images(root / "data", "mnist")
    return load(["experiment=routing/mixture", *SMALL, f"data.root='{data}'", *overrides])


def bank(config: dict[str, Any]) -> dict[str, Any]:
    settings = bank_config(config, config["run"]["learner"]["bank"])
    settings["run"] |= {"steps": 2, "batch": 8, "measures": {}}
    return settings


def test_a_predictor_mixes_the_masks_that_the_bank_learned(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    settings = bank(config)
    folder = execute(settings, root=tmp_path, command=["train"])
    stream, trained = stream_of(config), learner_of(settings, folder)
    x = stream[0].view(stream[0].test.images[:4])
    with torch.no_grad():
        expected = [trained(x, task) for task in range(len(stream))]
        model = mixture_of(trained.model, 0, form="hard").eval()
        source = model.modulators["threshold"].source
        assert isinstance(source, Mixture)
        for task, logits in enumerate(expected):
            source.router["bias"].copy_(torch.nn.functional.one_hot(torch.tensor(task), len(stream)))
            assert torch.allclose(model(x), logits, atol=1e-6)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)


def test_routing_is_a_picture_of_the_report(tmp_path: Path) -> None:
    folder = execute(config_of(tmp_path), root=tmp_path, command=["train"], results=tmp_path)
    result = read_json(folder / "result.json")
    weights = torch.tensor(result["measures"]["routing"]["weights"])
    assert weights.shape == (2, 2)
    assert torch.allclose(weights.sum(1), torch.ones(2), atol=1e-3)
    assert result["costs"]["parameters_per_task"] == 0
    assert "Which expert for which task?" in write([folder], tmp_path / "page.html", "t", [], draws()).read_text()
    again = execute(config_of(tmp_path), root=tmp_path, command=["train"], results=tmp_path)
    assert again == folder


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learner.bank=null", "bank"),
        ("hiden=3", "'hidden'"),
        ("bank=routing/banc", "routing/bank"),
        ("bank=demo/dense", "an experiment of modulators; got demo/dense"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        execute(config_of(tmp_path, override), root=tmp_path, command=["train"], results=tmp_path)


def test_the_bank_is_trained_on_what_the_predictor_sees(tmp_path: Path) -> None:
    settings = bank(config_of(tmp_path, "stream.tasks=3", "seed=4"))
    assert (settings["run"]["stream"]["tasks"], settings["seed"]) == (3, 4)
    assert settings["run"]["learner"]["_target_"].endswith("Modulated")


def test_a_predictor_needs_tasks_and_modulators_that_read_them(tmp_path: Path) -> None:
    film = load(["experiment=demo/gate", "stream.tasks=2"])
    with pytest.raises(UserError, match="gate reads input"):
        mixture_of(learner_of(film).model, 0)
