"""Mistakes on the command line, by kind: one line with the rule, the value and the remedy, status 2, and no folder left."""

import copy
import errno
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.commands.cli import main
from tasks.config.load import load, refuse
from tasks.errors import UserError
from tests.images import write

SMALL = ["data=tiny", "stream.tasks=2", "batch=8", "steps=2", "device=cpu", "evaluation.batch=20", "outputs=10"]
FAMILIES = ["demo/supermask", "supsup/transfer", "supsup/online", "demo/film run=joint", "baselines/ewc"]
FAMILIES += ["baselines/batch_ensemble", "meta/waves_cavia", "meta/fewshot_maml", "meta/oml"]
# Options that are numbers and may be anything but nan: what is drawn from them only.
FREE = ("seed", "data.turn", "first_identity")


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Train with a mistake; returns its one line."""
    data = write(tmp_path / "data")

    def run(*given: str) -> str:
        root = tmp_path / "some" / "runs"
        assert main(["train", f"data.root={data}", *given, "--root", str(root)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert not root.parent.exists()
        return line

    return run


def numbers(node: Any, path: str = "") -> Iterator[tuple[str, int | float]]:
    """The options of a config that are numbers, lists of numbers by their first place left out."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{path}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}{key}", value


def set_at(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of a config with one option changed."""
    made = copy.deepcopy(config)
    *path, last = key.split(".")
    node = made
    for part in path:
        node = node[part]
    node[last] = value
    return made


@pytest.mark.parametrize("experiment", FAMILIES)
def test_no_number_of_any_family_may_be_below_its_least_or_no_number(experiment: str) -> None:
    """Every option that is a number in the resolved config: what a family gets later is held to it too."""
    name, *more = experiment.split()
    config = load([f"experiment={name}", *more])
    named = ("target", "optimizer", "modulators", "regulariser")  # by what they name, when it is made
    for key, value in numbers(config):
        own = any(part in key.split(".") for part in named)
        wrong: list[Any] = [math.nan, math.inf, -math.inf]
        wrong += [] if own else ["text", [1], {"a": 1}, True]
        wrong += [-1, 1.5, 10**30] if isinstance(value, int) and not own and not key.endswith(FREE) else []
        for one in wrong:
            with pytest.raises(UserError, match=key.rpartition(".")[2]) as caught:
                refuse(set_at(config, key, one))
            assert "\n" not in str(caught.value)
            assert "must be" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optimizer.lr=-1", ("torch.optim.Adam", "-1")),
        ("optimizer.lr=null", ("optimizer.lr", "a number", "None")),
        ("evaluation.batch=-1", ("evaluation.batch", "1 or more", "-1")),
        ("outputs=3", ("an output for every class", "outputs=3", "10 classes")),
        ("stream.tasks=0", ("tasks", "1 or more", "0")),
        ("data.side=0", ("data.side", "1 or more", "0")),
        ("inference.groups=[0]", ("inference.groups[0]", "1 or more")),
        ("inference.methods=one_shot", ("inference.methods", "a list", "one_shot")),
        ("optimizer._target_=torch.optim.LBFGS", ("steps without arguments", "closure")),
        ("optimizer._target_=builtins.list", ("optimizer", "'lr'")),
        ("target.constructor=3", ("target.constructor", "dotted path", "3")),
        ("learner=null", ("learner", "known name", "null")),
        ("steps=3,4", ("steps", "one value", "3,4", "-m")),
        ("measures.own={_target_: math.sqrt}", ("measures.own", "math.sqrt", "learner, stream, bench")),
        ("augment=math.pow", ("augment", "math.pow", "called with")),
        ("schedule=math.pi", ("schedule", "a function", "math.pi")),
        ("optimizer.lr=1e38", ("Adam", "without overflow", "lower the rate")),
        ("allocation.every=3", ("'allocation.every'", "nearest")),
        ("scenarios.method=brute_farce", ("method of task inference", "'brute_farce'", "'brute_force'")),
    ],
)
def test_a_mistake_is_one_line(override: str, parts: tuple[str, ...], refusal: Callable[..., str]) -> None:
    line = refusal("experiment=demo/supermask", *SMALL, override)
    for part in parts:
        assert part in line


OWN = """
from torch import nn

def needs(shape, outputs, width): return nn.Identity()
def none(shape, outputs): return None
def fails(shape, outputs): return [][0]
def narrow(shape, outputs): return nn.Linear(3, outputs)
class Net(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
thing = 3
"""


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("own_nets:needs", ("own_nets:needs", "width")),
        ("own_nets:none", ("nn.Module", "NoneType")),
        ("own_nets:fails", ("own_nets:fails", "IndexError", "own_nets.py:6")),
        ("own_nets:narrow", ("images (1, 8, 8)", "own_nets:narrow")),
        ("own_nets:Net", ("own_nets:Net", "shape")),
        ("own_nets:thing", ("own_nets:thing",)),
        ("own_nets:narow", ("'narow'", "'narrow'")),
        ("./own_nets.py:narrow", ("own_nets:narrow", "PYTHONPATH")),
        ("torchvision.models:resnet18", ("torchvision.models:resnet18", "shape")),
        ("broken_net:f", ("broken_net:f", "ZeroDivisionError")),
    ],
)
def test_a_target_of_any_signature_is_made_or_refused(
    target: str, parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    (tmp_path / "own_nets.py").write_text(OWN)
    (tmp_path / "broken_net.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    line = refusal("experiment=demo/nothing", *SMALL, f"target={target}")
    for part in parts:
        assert part in line


def test_families_that_keep_a_modulation_per_task_say_what_they_need(refusal: Callable[..., str]) -> None:
    for experiment in ("supsup/online", "supsup/transfer"):
        line = refusal(f"experiment={experiment}", *SMALL, "modulator=lora_input")
        assert "modulators that read no task" in line


def test_a_method_is_measured_over_no_more_tasks_than_there_are(refusal: Callable[..., str]) -> None:
    given = ("experiment=demo/supermask", *SMALL, "inference.methods=[brute_force]", "inference.at=[1,3]")
    assert "which has 2; got 3; pass inference.at=[], or numbers of 2 at most" in refusal(*given)


def test_a_full_disk_is_one_line_and_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refusal("experiment=demo/nothing", *SMALL)


def test_a_name_that_is_no_text_is_refused(refusal: Callable[..., str]) -> None:
    assert "UTF-8" in refusal("experiment=demo/nothing", *SMALL, "title=\udcff")
    assert "zero byte" in refusal("experiment=demo/nothing", *SMALL, "title=a\0b")


def test_a_loss_that_is_not_finite_leaves_what_it_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        f"data.root={write(tmp_path / 'data')}",
        "experiment=demo/dense",
        *SMALL,
        "optimizer=sgd",
        "optimizer.lr=1e30",
    ]
    assert main(["train", *given, "steps=50", "log_every=1", "--root", str(tmp_path / "runs")]) == 2
    assert "the loss must stay finite" in capsys.readouterr().err.splitlines()[-1]
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "metrics.jsonl").read_text().count("\n") >= 1
