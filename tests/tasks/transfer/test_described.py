"""Rows from a description as experiments: every config runs, its options are used or refused, a run that was ended goes on."""

import json
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
from tasks.report import write as write_report
from tasks.runs.files import read_json
from tasks.transfer.described import Learned
from tests.images import write
from tests.tasks.ended import ended
from tests.tasks.setup import bench_of

ALL = [name for name in experiments() if name.startswith("transfer/described")]
SMALL = [
    "hidden=[8]",
    "body=[6]",
    "base_steps=5",
    "steps=4",
    "batch=8",
    "mixed=4",
    "tasks=12",
    "unseen=5",
    "grid=[1,4]",
]
FILM = "transfer/described_film"


def given(tmp_path: Path, name: str, *more: str) -> dict[str, Any]:
    root = write(tmp_path / "data")
    small = [option for option in SMALL if "described" in name or not option.startswith(("body", "unseen"))]
    plain = ["device=cpu", "log_every=1", "save_every=2", "data.name=tiny", "data.halve=false"]
    return load([f"experiment={name}", *plain, *small, *more, f"data.root='{root}'"])


def run(name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    folder = execute(given(tmp_path, name, *more), root=tmp_path / "runs", command=["train"], results=tmp_path)
    return {"folder": folder, **read_json(folder / "result.json")}


def losses(result: dict[str, Any]) -> list[Any]:
    return [json.loads(line).get("loss") for line in (result["folder"] / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(FILM, tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("name", ALL)
def test_every_config_is_found_and_drawn(name: str, tmp_path: Path) -> None:
    result = run(name, tmp_path)
    found = result["measures"]["described"]
    assert len(found["accuracies"]) == len(found["degrees"]) == len(found["distances"]) == 5
    assert result["value"] == pytest.approx(sum(found["accuracies"]) / 5)
    beside = {"described": {"own_nearest", "spread"}, "table": {"mean_row"}, "trained": set()}
    assert beside[found["arm"]] <= set(found)
    for one in beside[found["arm"]] - {"spread"}:
        assert found[one]["accuracy"] == pytest.approx(sum(found[one]["each"]) / 5)
    page = write_report([result["folder"]], tmp_path / "report.html", "transfer", [], draws()).read_text()
    assert "Rows from a description" in page
    assert ("angle in degrees" in page) == ("turn" in found["changes"])


@pytest.mark.parametrize("name", ALL)
def test_every_option_stands_in_the_config_and_in_the_family(name: str) -> None:
    config = load([f"experiment={name}"])["run"]
    assert set(config) - {"_target_"} == set(vars(experiment(config)))


def test_arms_share_the_network_and_the_tasks_and_training_tasks_are_none_that_are_held_out(tmp_path: Path) -> None:
    learned = [
        Learned(experiment(c["run"]), bench_of(c))
        for c in (given(tmp_path, FILM, f"arm={a}") for a in ("described", "table", "trained"))
    ]
    assert len({one.target().fingerprint() for one in learned}) == 1
    held = [[tuple(t.description.tolist()) for t in one.held_out] for one in learned]
    assert held[0] == held[1] == held[2]
    assert not {*held[0]} & {tuple(t.description.tolist()) for t in learned[0].training}
    more = given(tmp_path, FILM, "tasks=20")
    assert [tuple(t.description.tolist()) for t in Learned(experiment(more["run"]), bench_of(more)).held_out] == held[0]


def test_rows_of_other_tasks_stand_beside(tmp_path: Path) -> None:
    """The nearest row is that of the training task whose description is nearest, the mean that of what rows do."""
    asked = given(tmp_path, "transfer/described_masks_table")
    learned = Learned(experiment(asked["run"]), bench_of(asked))
    table = learned.modulator().source
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in table.parameters():
            parameter.copy_(0.005 + 0.01 * torch.randn(parameter.shape, generator=rng))
    place = int(learned.distances[2].argmin())
    x = learned.world.set.test_images[:4].float() / 255
    model = learned.rows().eval()
    assert torch.equal(learned.logits(learned.held_out[2])(x), model(x, task=place))
    site = learned.modulator().sites[0].label
    mean = torch.stack([(table.own(task)[f"{site}/score"] > 0.005).float() for task in range(12)]).mean(0)
    (rows,) = learned._mean().keywords["rows"].values()  # type: ignore[attr-defined]
    assert torch.allclose(rows.one()[f"{site}/factor"], mean)


@pytest.mark.parametrize(
    "changed",
    [
        ["kind={_target_: neuromod.LowRankDelta, rank: 2}"],
        ["optimizer.lr=0.5"],
        ["base_optimizer.lr=0.02"],
        ["changes=[pairs]"],
        ["grid=[2,4]"],
        ["tasks=20"],
        ["unseen=3"],
        ["arm=table"],
        ["body=[5]"],
        ["hidden=[5]"],
        ["base_steps=9"],
        ["base_steps=0"],
        ["steps=9"],
        ["batch=4"],
        ["mixed=2"],
    ],
)
def test_an_option_changes_what_comes_out(changed: list[str], usual: dict[str, Any], tmp_path: Path) -> None:
    other = run(FILM, tmp_path, *changed)
    assert losses(usual) != losses(other) or other["measures"] != usual["measures"]


@pytest.mark.parametrize("ended_at", [1, 3, 4])
def test_a_run_that_was_ended_goes_on_to_the_same(
    ended_at: int, usual: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the network, in the rows, behind the last step."""
    with ended(ended_at, monkeypatch):
        run(FILM, tmp_path)
    resumed = run(FILM, tmp_path)
    assert (resumed["value"], resumed["measures"]) == (usual["value"], usual["measures"])
    assert losses(resumed) == losses(usual)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["mixed=3"], "got batch=8 and mixed=3"),
        (["arm=nearest"], "arm must be one of"),
        (["changes=[turns]"], "changes[0] must be one of"),
        (["changes=[]"], "tasks differ in one of"),
        (["grid=[3,1]"], "got grid=[3, 1]"),
        (["changes=[pairs]", "tasks=86"], "make 90, asked are 91"),
        (["kind._target_=neuromod.Afine"], "neuromod has no 'Afine'"),
        (["optimizer._target_=torch.optim.Nothing"], "torch.optim has no 'Nothing'"),
        (["data.scaling=standard"], "got data.scaling=standard; pass data.scaling=unit"),
        (["data.name=null"], "got data.name=null"),
        (["base_optimizer.lr=1e30"], "the loss must stay finite"),
        (["depth=2"], "depth"),
    ],
)
def test_a_wrong_option_is_one_line(wrong: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises((UserError, RefusedError, FloatingPointError), match=re.escape(message)) as refusal:
        run(FILM, tmp_path, *wrong)
    assert "\n" not in str(refusal.value).strip()


def test_held_out_images_are_training_images(tmp_path: Path) -> None:
    asked = given(tmp_path, FILM)
    bench = bench_of(asked)
    bench.held_out = 20
    world = Learned(experiment(asked["run"]), bench).world
    assert (len(world.set.train_labels), len(world.set.test_labels)) == (60, 20)
    bench = bench_of(asked)
    bench.held_out = 80
    with pytest.raises(UserError, match="got 80 of 80"):
        Learned(experiment(asked["run"]), bench)
