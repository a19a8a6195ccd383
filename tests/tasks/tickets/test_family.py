"""Tickets as experiments: every config runs, its options are used or refused in one line, a run that was ended goes on."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from neuromod import RefusedError
from tasks.commands.cli import main
from tasks.commands.draws import draws
from tasks.config.build import experiment
from tasks.config.load import experiments, load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.report import write as write_report
from tasks.runs.files import read_json
from tests.images import write
from tests.tasks.ended import ended

ALL = [name for name in experiments() if name.startswith("tickets/")]
DRAWN, TRAINED, HEAD = ["tickets/small", "tickets/ten"], ["tickets/lenet", "tickets/pensia"], ["tickets/head"]
OF_DRAWN = ["widths=[4,5,3]", "n=8", "spare=2", "samples=50", "law=[6,8]", "targets=2", "scale=2.0"]
OF_TRAINED = ["hidden=[6]", "n=8", "spare=2", "steps=3", "batch=8", "samples=50", "row_tables=2"]
OF_HEAD = ["dimension=8", "n=10", "spare=2", "steps=3", "batch=8", "sequences=9"]
SMALL = {
    **dict.fromkeys(DRAWN, OF_DRAWN),
    **{name: [*OF_TRAINED, "data.name=tiny"] for name in TRAINED},
    **{name: [*OF_HEAD, "data.name=tiny"] for name in HEAD},
}


def run(name: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    given = [f"experiment={name}", "device=cpu", "log_every=1", "save_every=1", *SMALL[name], *more]
    given += [] if name in DRAWN else [f"data.root='{write(tmp_path / 'data')}'"]
    folder = execute(load(given), root=tmp_path / "runs", command=["train"], results=tmp_path)
    return {"folder": folder, **read_json(folder / "result.json")}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found: dict[str, Any] = run("tickets/ten", tmp_path_factory.mktemp("usual"), "law=[]")["measures"]["ticket"]
    return found


def test_a_change_of_nothing_changes_nothing(usual: dict[str, Any], tmp_path: Path) -> None:
    again = run("tickets/ten", tmp_path, "law=[]")["measures"]["ticket"]
    assert {**usual, "seconds": 0} == {**again, "seconds": 0}


def test_all_configs_are_here() -> None:
    assert {*DRAWN, *TRAINED, *HEAD} == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_config_is_found_and_drawn(name: str, tmp_path: Path) -> None:
    result = run(name, tmp_path)
    ticket = result["measures"]["ticket"]
    assert result["better"] == "lower"
    assert 0 <= result["value"] < 3
    assert 0 < ticket["kept_per_weight"] < 2 * 10
    assert 0 < ticket["median_error"] < ticket["worst_error"]
    assert ticket["seconds"] > 0
    assert ticket["bytes_per_task"] * 8 >= ticket["frozen"]
    page = write_report([result["folder"]], tmp_path / "report.html", "tickets", [], draws()).read_text()
    assert "What was found in the random network" in page
    assert "mathdefault" not in page


@pytest.mark.parametrize("name", ALL)
def test_every_option_stands_in_the_config_and_in_the_family(name: str) -> None:
    config = load([f"experiment={name}"])["run"]
    family = experiment(config)
    assert set(config) - {"_target_"} == set(vars(family))


def test_what_is_measured_of_drawn_targets(tmp_path: Path) -> None:
    measures = run("tickets/ten", tmp_path)["measures"]
    ticket, law = measures["ticket"], measures["ticket_law"]
    assert len(ticket["certified_each"]) == len(ticket["measured_each"]) == 2
    assert all(0 < m < c for m, c in zip(ticket["measured_each"], ticket["certified_each"], strict=True))
    assert ticket["certified"] == max(ticket["certified_each"])
    assert law["n"] == [6, 8]
    slope = torch.log2(torch.tensor(law["median"], dtype=torch.float64)).diff().item() / 2
    assert law["slope"] == pytest.approx(slope)
    assert {bit for row in measures["ticket_mask"]["bits"] for bit in row} == {0, 1}


@pytest.mark.parametrize(
    "changed",
    [
        ["bias=true"],
        ["normalised=false"],
        ["nonnegative_input=true"],
        ["init=kaiming_normal", "scale=5.0"],
        ["radius=2.0"],
        ["tolerance=null"],
        ["tolerance=1e-5"],
        ["spare=0"],
        ["targets=1"],
    ],
)
def test_an_option_changes_what_is_found(changed: list[str], usual: dict[str, Any], tmp_path: Path) -> None:
    other = run("tickets/ten", tmp_path, "law=[]", *changed)["measures"]["ticket"]
    assert {**usual, "seconds": 0} != {**other, "seconds": 0}


def test_units_for_one_side_of_the_pixels_are_half_as_many(tmp_path: Path) -> None:
    one, two = (
        run("tickets/lenet", tmp_path, f"nonnegative_input={given}")["measures"]["ticket"]["frozen"]
        for given in ("true", "false")
    )
    first, second = 64 * 10, 6 * 10
    assert one == first * (64 + 6) + second * (6 + 10)
    assert two == 2 * first * (64 + 6) + second * (6 + 10)


def test_tables_of_rows_stand_beside_candidates_of_each_weight(tmp_path: Path) -> None:
    found = run("tickets/pensia", tmp_path)["measures"]["ticket_rows"]
    assert found["weights"] == 2 * 64
    assert found["shared_microseconds"] > 0 < found["own_microseconds"]
    assert "ticket_rows" not in run("tickets/pensia", tmp_path, "row_tables=0")["measures"]


@pytest.mark.parametrize("name", ["tickets/ten", "tickets/lenet", "tickets/head"])
def test_a_run_that_was_ended_goes_on_to_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(name, tmp_path / "whole")
    with ended(1, monkeypatch):
        run(name, tmp_path / "ended")
    resumed = run(name, tmp_path / "ended")

    def told(result: dict[str, Any]) -> Any:
        measures = json.loads(json.dumps(result["measures"]))
        for clock in ("seconds", "find_seconds"):
            measures["ticket"].pop(clock, None)
        measures.pop("ticket_rows", None)
        return result["value"], measures

    assert told(resumed) == told(whole)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("tickets/small", "n=1", "n must be"),
        ("tickets/small", "n=27", "n must be"),
        ("tickets/small", "tolerance=0", "tolerance must be"),
        ("tickets/small", "targets=0", "targets must be"),
        ("tickets/small", "law=[8,99]", "n must be an integer from 2 to 26"),
        ("tickets/small", "law=[8]", "a law is a line through two n or more; got law=[8]"),
        ("tickets/small", "init=none", "init must be one of"),
        ("tickets/small", "widths=[4]", "widths are those of all layers"),
        ("tickets/small", "scale=0.01", "a target weight must lie within the reach of its candidates"),
        ("tickets/lenet", "optimizer._target_=torch.optim.Nothing", "torch.optim has no 'Nothing'"),
        ("tickets/lenet", "schedule=slow", "schedule must be one of"),
        ("tickets/lenet", "data.scaling=standard", "inputs are pixels from 0 to 1"),
        ("tickets/lenet", "data.name=null", "a network is trained on images before it is found"),
        ("tickets/head", "heads=3", "got heads=3, head=0; take a divisor"),
        ("tickets/head", "head=4", "got heads=4, head=4"),
        ("tickets/head", "depth=2", "depth"),
    ],
)
def test_a_wrong_option_is_one_line(name: str, wrong: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((UserError, RefusedError), match=re.escape(message)) as refusal:
        run(name, tmp_path, wrong)
    assert "\n" not in str(refusal.value).strip()


def test_there_is_nothing_to_select(tmp_path: Path) -> None:
    config = load(["experiment=tickets/small", *SMALL["tickets/small"]])
    with pytest.raises(UserError, match="select has none to choose"):
        execute(config, root=tmp_path, command=["select"], held=5, results=tmp_path)


def test_the_command_line_says_it_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*SMALL["tickets/small"], "scale=0.01", f"--root={tmp_path}"]
    assert main(["train", "experiment=tickets/small", *given]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "within the reach of its candidates" in said[-1]
