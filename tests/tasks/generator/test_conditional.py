"""Conditional generators as experiments: every config runs, options are used or refused in one line, an ended run goes on."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from neuromod import RefusedError
from tasks.commands.draws import draws
from tasks.config.build import experiment
from tasks.config.load import experiments, load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.generator.adversaries import Adversaries
from tasks.generator.conditional import WAY, ConditionalGan
from tasks.report import write as write_report
from tasks.runs.files import read_json
from tests.images import write
from tests.tasks.ended import ended
from tests.tasks.setup import bench_of

ALL = [name for name in experiments() if name.startswith("generator/gan")]
SMALL = [
    "width=4",
    "latent=3",
    "critic=4",
    "batch=6",
    "steps=3",
    "judge_steps=4",
    "samples=40",
    "data=tiny",
    "data.halve=false",
]


def given(name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    root = write(tmp_path / "data")
    small = [f"experiment=generator/{name}", "device=cpu", "log_every=1", "save_every=2", *SMALL, *more]
    return load([*small, f"data.root='{root}'"])


def run(name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    folder = execute(given(name, tmp_path, *more), root=tmp_path / "runs", command=["train"], results=tmp_path)
    return {"folder": folder, **read_json(folder / "result.json")}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run("gan_frozen", tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("name", ALL)
def test_every_config_is_found_and_drawn(name: str, tmp_path: Path) -> None:
    result = run(name.removeprefix("generator/"), tmp_path)
    found, pictures = result["measures"]["generator"], result["measures"]["samples"]
    assert result["value"] == found["agreement"]
    assert 0 <= found["agreement"] <= 1
    assert min(found["frechet"], found["frechet_real"]) > 0
    assert torch.tensor(pictures["samples"]).shape == (80, 8, 8)
    assert torch.tensor(pictures["between"]).shape == torch.tensor(pictures["styles"]).shape == (4, WAY, 8, 8)
    page = write_report([result["folder"]], tmp_path / "report.html", "generators", [], draws()).read_text()
    assert "Samples of each class" in page
    assert "Between classes and between styles" in page


@pytest.mark.parametrize("name", ALL)
def test_every_option_stands_in_the_config_and_in_the_family(name: str) -> None:
    config = load([f"experiment={name}"])["run"]
    assert set(config) - {"_target_"} == set(vars(experiment(config)))


def told(tmp_path: Path, *more: str) -> tuple[ConditionalGan, Adversaries]:
    config = given("gan_random", tmp_path, *more)
    family, bench = experiment(config["run"]), bench_of(config)
    return family, family._told(family._target(bench, {}), bench)


@pytest.mark.parametrize("hidden", [0, 5])
def test_at_its_start_nobody_is_told_anything(hidden: int, tmp_path: Path) -> None:
    """``1 + A c`` and ``B c`` with A = B = 0: the target itself, whatever the condition."""
    _, arm = told(tmp_path, f"hidden={hidden}")
    z = torch.randn(8, 3)
    arm.model.train()
    one, other = (arm.generate(z, torch.full((8,), label)) for label in (0, 7))
    assert torch.equal(one, other)


def test_a_linear_network_is_one_plus_a_c(tmp_path: Path) -> None:
    """Class-and-noise conditional BatchNorm, beside its equation."""
    family, arm = told(tmp_path, "hidden=0")
    with torch.no_grad():
        for parameter in arm.model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    z, y = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, 4, 5])
    condition = family.condition(z, y, 10)
    source = arm.model.named_modulators()["affine"].source
    rows = arm.model.rows(z, task=0, condition=condition)["affine"]
    for site in arm.model.target.norms():
        gain, bias = (rows.gathered(torch.arange(6))[f"{site.label}/{part}"] for part in ("gain", "bias"))
        for value, start, part in ((gain, 1, "gain"), (bias, 0, "bias")):
            key = f"{site.label}/{part}"
            torch.testing.assert_close(value, start + condition @ source.head[key].T + source.shift[key])


def test_what_is_frozen_is_what_was_trained(tmp_path: Path) -> None:
    result = run("gan_frozen", tmp_path)
    counts = result["measures"]["generator"]
    assert counts["numbers"] == 3 * 4 * 16 + 8 + 4 * 4 * 9 + 8 + 4 * 9 + 1
    assert counts["modulating"] == (10 + 3 + 1) * 64 + (64 + 1) * 16


@pytest.mark.parametrize(
    "changed",
    [
        ["arm=whole"],
        ["arm=random"],
        ["latent=4"],
        ["told_lr=0.1"],
        ["width=5"],
        ["blocks=2"],
        ["hidden=0"],
        ["critic=5"],
        ["batch=5"],
        ["steps=4"],
        ["judge_steps=5"],
        ["samples=41"],
        ["generator.lr=0.1"],
        ["discriminator.lr=0.1"],
    ],
)
def test_an_option_changes_what_is_found(changed: list[str], usual: dict[str, Any], tmp_path: Path) -> None:
    other = run("gan_frozen", tmp_path, *changed)["measures"]["generator"]
    assert other["frechet"] != usual["measures"]["generator"]["frechet"]


@pytest.mark.parametrize("ended_at", [1, 3, 4])
def test_a_run_that_was_ended_goes_on_to_the_same(
    ended_at: int, usual: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the judge, in the generator without classes, in what is told them."""
    with ended(ended_at, monkeypatch):
        run("gan_frozen", tmp_path)
    resumed = run("gan_frozen", tmp_path)
    assert (resumed["value"], resumed["measures"]) == (usual["value"], usual["measures"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["arm=frosen"], "arm must be one of"),
        (["latent=0"], "latent must be"),
        (["data.scaling=standard"], "got data.scaling=standard; pass data.scaling=unit"),
        (["data.name=null"], "got data.name=null"),
        (["generator._target_=torch.optim.Nothing"], "torch.optim has no 'Nothing'"),
        (["generator.lr=1e30", "steps=6"], "the loss must stay finite"),
        (["discriminator.lr=1e30", "steps=6"], "the loss must stay finite"),
        (["depth=2"], "depth"),
    ],
)
def test_a_wrong_option_is_one_line(wrong: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises((UserError, RefusedError, FloatingPointError), match=re.escape(message)) as refusal:
        run("gan_frozen", tmp_path, *wrong)
    assert "\n" not in str(refusal.value).strip()
    assert not list(tmp_path.rglob("result.json"))
