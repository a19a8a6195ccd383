"""Given rows in one hypernetwork, as experiments."""

import re
from pathlib import Path
from typing import Any

import pytest

from tasks.commands.draws import draws
from tasks.config.load import experiments
from tasks.errors import UserError
from tasks.report import write as write_report
from tests.tasks.transfer.test_described import run

ALL = [name for name in experiments() if name.startswith("transfer/compressed")]
SMALL = ["sizes=[2,9]", "fit_steps=30"]


@pytest.mark.parametrize("name", ALL)
def test_larger_hypernetworks_meet_rows_better(name: str, tmp_path: Path) -> None:
    result = run(name, tmp_path, *SMALL)
    found = result["measures"]["compressed"]
    small, large = found["sizes"]
    assert (small["size"], large["size"]) == (2, 9)
    assert small["bytes"] < large["bytes"]
    assert large["error"] < small["error"] <= 1
    assert result["value"] == large["accuracy"]
    assert result["costs"]["bytes_per_task"] == large["bytes"] // 12
    page = write_report([result["folder"]], tmp_path / "report.html", "transfer", [], draws()).read_text()
    assert "Given rows in one hypernetwork" in page


def test_bytes_are_those_of_all_that_is_learned(tmp_path: Path) -> None:
    """By hand: 12 embeddings of 2; a body 2 x 2 + 2; heads of 36 gains and biases from 2 features, with shifts."""
    found = run("transfer/compressed_film", tmp_path, *SMALL)["measures"]["compressed"]
    assert found["sizes"][0]["bytes"] == 4 * (12 * 2 + 6 + 36 * 3)
    assert found["rows_bytes"] == 4 * 12 * 36


@pytest.mark.parametrize("changed", [["fitting.lr=0.5"], ["fit_steps=2"]])
def test_an_option_changes_what_comes_out(changed: list[str], tmp_path: Path) -> None:
    usual, other = (run("transfer/compressed_film", tmp_path, *SMALL, *more) for more in ([], changed))
    assert usual["measures"] != other["measures"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["arm=trained"], "got arm=trained and sizes=[2, 9]"),
        (["sizes=[]"], "and sizes=[]; pass arm=table"),
        (["sizes=[4,2]"], "and sizes=[4, 2]"),
        (["sizes=[0]"], "sizes[0] must be"),
        (["fitting._target_=torch.optim.Nothing"], "torch.optim has no 'Nothing'"),
    ],
)
def test_a_wrong_option_is_one_line(wrong: list[str], message: str, tmp_path: Path) -> Any:
    with pytest.raises(UserError, match=re.escape(message)) as refusal:
        run("transfer/compressed_film", tmp_path, *SMALL, *wrong)
    assert "\n" not in str(refusal.value).strip()
