import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tasks
from tasks.errors import UserError
from tasks.runs import environment
from tasks.runs.files import dumps
from tasks.runs.run import Run, config_hash

pytestmark = pytest.mark.usefixtures("known_commit")

CONFIG = {"seed": 0, "model": {"width": 8, "rate": 0.1}}


def start(root, config=CONFIG, **options):
    return Run.open(root, "permuted mnist/seed=0", config, "ab12", ["python", "-m", "tasks"], **options)


# Identity


def test_the_folder_has_a_readable_name_and_a_hash_of_everything(tmp_path):
    with start(tmp_path) as run:
        assert run.folder == tmp_path / f"permuted-mnist-seed-0-{config_hash(CONFIG, 'ab12')}"
        assert json.loads((run.folder / "config.json").read_text()) == CONFIG
        assert json.loads((run.folder / "environment.json").read_text())["fingerprint"] == "ab12"
        assert run.plots.is_dir()
        assert os.fspath(run) == str(run.folder)


@pytest.mark.parametrize(
    ("config", "fingerprint"),
    [
        (CONFIG | {"seed": 1}, "ab12"),
        (CONFIG | {"model": {"width": 8, "rate": 0.1000000001}}, "ab12"),
        (CONFIG | {"extra": None}, "ab12"),
        (CONFIG, "ab13"),
    ],
)
def test_the_hash_covers_every_value_and_the_target(config, fingerprint):
    assert len(config_hash(CONFIG, "ab12")) == 10
    assert config_hash(config, fingerprint) != config_hash(CONFIG, "ab12")


def test_the_hash_does_not_depend_on_the_order_of_keys():
    assert config_hash(dict(reversed(CONFIG.items())), "ab12") == config_hash(CONFIG, "ab12")


def test_a_name_without_letters_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs a name"):
        Run.open(tmp_path, "///", CONFIG, "ab12", [])


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    with start(tmp_path) as run:
        (run.folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="it differs"):
        start(tmp_path)
    (run.folder / "config.json").write_text(dumps(CONFIG))
    start(tmp_path).close()


# Metrics, checkpoints, resuming


def train(run, until, kill_at=None):
    """A loop as the real one: the state is a sum, logged each step and saved every third."""
    state = run.load()
    total, first = (state[0]["total"], state[1]) if state else (0.0, 0)
    run.rewind(first)
    for step in range(first + 1, until + 1):
        total += 1 / step
        run.log(step=step, total=total, clock={"seconds": os.getpid()})
        if step == kill_at:
            return
        if step % 3 == 0:
            run.log(step=step, saved=True)
            run.save({"total": total}, step)


def without_clock(run):
    return [{key: value for key, value in line.items() if key != "clock"} for line in run.metrics()]


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4, 6, 8])
def test_a_resumed_run_has_the_metrics_of_an_undisturbed_one(tmp_path, kill_at):
    with start(tmp_path / "whole") as whole:
        train(whole, 9)
    with start(tmp_path / "torn") as run:
        train(run, 9, kill_at)
    with start(tmp_path / "torn") as run:
        train(run, 9)
        assert without_clock(run) == without_clock(whole)
        assert run.load() == whole.load()
        assert (run.folder / "checkpoint.safetensors").read_bytes() == (
            whole.folder / "checkpoint.safetensors"
        ).read_bytes()


def test_a_run_killed_while_writing_goes_on_from_its_checkpoint(tmp_path):
    """A process is killed by SIGKILL with a torn line behind it and the lock in its hands."""
    script = """
import os, signal, sys
from tasks.runs.run import Run
run = Run.open(sys.argv[1], "permuted mnist/seed=0", {"seed": 0}, "ab12", ["x"])
run.log(step=1)
run.save({"total": 1.5}, 1)
run.log(step=2)
with open(run.folder / "metrics.jsonl", "ab") as file:
    file.write(b'{"step": 3, "tot')
(run.folder / ".checkpoint.safetensors.00000000.tmp").write_bytes(b"half")
print("ready", flush=True)
signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], cwd=package_root(), stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(UserError, match="one process at a time") as caught:
            start(tmp_path, {"seed": 0})
        assert "\n" not in str(caught.value)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with start(tmp_path, {"seed": 0}) as run:
        assert not run.finished
        assert (run.folder / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
        assert run.load() == ({"total": 1.5}, 1)
        run.rewind(1)
        run.log(step=2)
        assert (run.folder / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
        assert list(run.folder.glob(".*")) == []


def package_root():
    return Path(tasks.__file__).parents[1]


def test_a_torn_line_is_left_out_by_a_reader_too(tmp_path):
    with start(tmp_path) as run:
        run.log(step=1)
        with open(run.folder / "metrics.jsonl", "ab") as file:
            file.write(b'{"step"')
        assert Run.at(run.folder).metrics() == [{"step": 1}]


def test_a_run_rewinds_to_its_checkpoint_only(tmp_path):
    with start(tmp_path) as run:
        run.log(step=1)
        (first,) = (run.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        run.log(step=1)
        run.log(step=1)
        run.save({}, 1)
        with pytest.raises(ValueError, match="step 1; got step 2"):
            run.rewind(2)
        (run.folder / "metrics.jsonl").write_bytes(first)
        with pytest.raises(UserError, match="lacks 2 lines"):
            run.rewind(1)
        (run.folder / "digests.json").unlink()  # as of runs of before there were digests
        with pytest.raises(UserError, match="lacks 2 lines"):
            run.rewind(1)


def test_one_process_at_a_time_and_closing_frees_the_folder(tmp_path):
    first = start(tmp_path)
    with pytest.raises(UserError, match="is in use"):
        start(tmp_path)
    first.close()
    start(tmp_path).close()
    with start(tmp_path, CONFIG | {"seed": 1}):
        start(tmp_path).close()


def test_a_closed_run_and_a_run_opened_to_read_write_nothing(tmp_path):
    with start(tmp_path) as run:
        run.log(step=1)
    reader = Run.at(run.folder)
    assert (reader.config, reader.metrics()) == (CONFIG, [{"step": 1}])
    for one in (run, reader):
        for write in (
            lambda one: one.log(step=2),
            lambda one: one.save({}, 1),
            lambda one: one.finish({}),
            lambda one: one.rewind(0),
        ):
            with pytest.raises(RuntimeError, match="only an open run"):
                write(one)
    assert reader.metrics() == [{"step": 1}]
    with pytest.raises(UserError, match="folder with config"):
        Run.at(tmp_path)


def test_resuming_is_recorded_with_its_commit_and_told(tmp_path, monkeypatch):
    with start(tmp_path) as run:
        assert run.resumed is None
        run.save({}, 4)
    with start(tmp_path) as run:
        assert (run.resumed.step, run.resumed.elsewhere) == (4, False)
    monkeypatch.setattr(environment, "code", lambda: environment.Code("beef", False))
    with start(tmp_path) as run:
        assert (run.resumed.commit, run.resumed.began, run.resumed.elsewhere) == ("beef", "c0ffee" * 6, True)
        record = json.loads((run.folder / "environment.json").read_text())
        assert record["commit"] == "c0ffee" * 6
        assert [(entry["commit"], entry["dirty"], entry["step"]) for entry in record["resumed"]] == [
            ("c0ffee" * 6, False, 4),
            ("beef", False, 4),
        ]
        run.finish({"accuracy": 1.0})
    with start(tmp_path) as run:
        assert (run.finished, run.resumed) == (True, None)
        assert len(json.loads((run.folder / "environment.json").read_text())["resumed"]) == 2


def test_a_run_that_reached_no_checkpoint_takes_the_commit_of_its_new_start(tmp_path, monkeypatch):
    start(tmp_path).close()
    monkeypatch.setattr(environment, "code", lambda: environment.Code("beef", True))
    with start(tmp_path) as run:
        record = json.loads((run.folder / "environment.json").read_text())
        assert (record["commit"], record["dirty"], record["resumed"], run.resumed) == ("beef", True, [], None)


def test_a_run_is_finished_when_its_result_can_be_read(tmp_path):
    with start(tmp_path) as run:
        assert not run.finished
        run.finish({"accuracy": 0.5, "matrix": torch.tensor([[0.5, math.nan]])})
        assert run.finished
        assert json.loads((run.folder / "result.json").read_text()) == {"accuracy": 0.5, "matrix": [[0.5, "nan"]]}
        (run.folder / "result.json").write_text('{"accuracy": 0.')
        assert not run.finished


def test_a_broken_checkpoint_is_told_in_one_line(tmp_path):
    with start(tmp_path) as run:
        run.save({"a": torch.ones(100)}, 1)
        path = run.folder / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(UserError, match="must be a checkpoint of a run"):
            run.load()
