"""Runs whose shared source is held: they forget less, resume to the byte, and are refused where nothing could be held."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from neuromod import RefusedError
from tasks.config.load import load
from tasks.continual.learners.modulated import modulated
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.runs.files import read_json
from tasks.runs.run import Run
from tests.tasks.setup import state_of

TINY = ["experiment=demo/film", "data=tiny", "target.kwargs.hidden=[16]", "device=cpu", "stream.tasks=3", "outputs=10"]
TINY += ["batch=16", "optimizer.lr=0.05", "steps=20", "log_every=5", "save_every=8", "regulariser.beta=3.0"]


def run(root: Path, data: str, *overrides: str) -> Path:
    return execute(load([*TINY, data, *overrides]), root=root, command=["train"], results=root)


def record(folder: Path) -> list[dict[str, Any]]:
    """What a run wrote, without what a clock said."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("clock", "seconds")} for line in found] + [
        {k: v for k, v in read_json(folder / "result.json").items() if k != "seconds"}
    ]


@pytest.mark.parametrize("overrides", [["regulariser.sample=1"], ["regulariser.stored=false", "optimizer=sgd"]])
def test_a_run_stopped_at_any_checkpoint_goes_on(
    overrides: list[str], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", data, *overrides)
    save = Run.save

    def stopping(self: Run, tree: Any, step: int) -> None:
        save(self, tree, step)
        raise KeyboardInterrupt

    stops = 0
    with monkeypatch.context() as patched:
        patched.setattr(Run, "save", stopping)
        while stops < 9:  # twice within each of three tasks, and at the end of each
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "stopped", data, *overrides)
            stops += 1
    folder = run(tmp_path / "stopped", data, *overrides)
    assert record(folder) == record(whole)
    assert (folder / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()


def test_a_held_source_forgets_less_and_codes_of_old_tasks_stand_still(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Any] = []
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda self, tree, step: (saved.append(copied(tree)), save(self, tree, step)))
    forgotten = {}
    for beta in (0.0, 3.0):
        saved.clear()
        folder = run(tmp_path, data, f"regulariser.beta={beta}", "steps=60", "save_every=100")
        forgotten[beta] = read_json(folder / "result.json")["measures"]["matrix"]["forgetting"]
        assert read_json(folder / "config.json")["run"]["learner"]["regulariser"]["beta"] == beta
        first, *rest = [tree["model.modulators.affine.source.codes.table.0"] for tree in saved]
        assert len(rest) == 2
        assert all(torch.equal(first, later) for later in rest)
    assert forgotten[3.0] < forgotten[0.0] - 0.05


def copied(tree: Any) -> Any:
    return {key: value.clone() for key, value in tree["state"]["learner"].items()}


def model_of(folder: Path) -> dict[str, Any]:
    """The last state of a run's learner."""
    state: dict[str, Any] = state_of(folder)["learner"]
    return state


def test_look_ahead_and_samples_reach_the_training(data: str, tmp_path: Path) -> None:
    ends = []
    for override in ("seed=0", "regulariser.lookahead=false", "regulariser.sample=1", "regulariser.beta=0"):
        state = model_of(run(tmp_path, data, override))
        ends.append(state["model.modulators.affine.source.shift.2/gain"])
        assert ("regulariser.held" in state) == (override != "regulariser.beta=0")
    assert all(not torch.equal(a, b) for i, a in enumerate(ends) for b in ends[:i])
    stored, recomputed = (model_of(run(tmp_path, data, f"regulariser.stored={stored}")) for stored in ("true", "false"))
    assert len([key for key in stored if key.startswith("regulariser.rows")]) == 2
    assert len([key for key in recomputed if key.startswith("regulariser.weights")]) > 2


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["run=joint"], UserError, "run=joint mixes all tasks in every batch; pass regulariser.beta=0"),
        (["learner=dense"], UserError, "for which the run or the learner that was chosen has no place"),
        (["modulator=bn_only_table"], RefusedError, "got Table; use a Hypernet or a LowRank"),
        (["modulator=gate_input"], RefusedError, "reads 'input'"),
        (["regulariser.beta=-1"], RefusedError, "beta must be finite and not negative; got -1"),
        (["regulariser.sample=0"], RefusedError, "got sample=0"),
    ],
)
def test_what_cannot_be_held_is_refused(
    overrides: list[str], error: type[Exception], message: str, data: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        run(tmp_path, data, *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_groups_of_sites_and_modulators_that_a_network_may_lack(stage: tuple[Any, Any]) -> None:
    _, target = stage
    table = {"_target_": "neuromod.Table", "tasks": 1}
    weights = {"kind": {"_target_": "neuromod.Threshold"}, "source": table}
    config = {
        "weights": {**weights, "sites": {"weights": "*", "exclude": ["@head", "@norms"]}},
        "norms": {"kind": {"_target_": "neuromod.Affine"}, "source": table, "sites": {"norms": "*"}, "optional": True},
        "left": None,
    }
    model = modulated(target, config, tasks=2, seed=0)
    assert list(model.named_modulators()) == ["threshold"]
    assert [site.name for site in model.named_modulators()["threshold"].sites] == ["1.weight"]
    with pytest.raises(RefusedError, match="the network has none"):
        modulated(target, {"norms": {**config["norms"], "optional": False}}, tasks=2, seed=0)  # type: ignore[dict-item]
