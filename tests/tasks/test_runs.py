import json
import math
import os
import signal
import subprocess
import sys
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

import tasks
from tasks import environment
from tasks.checkpoint import from_file, to_bytes
from tasks.errors import UserError
from tasks.files import canonical, dumps, strict, write_atomic
from tasks.runs import Run, config_hash

CONFIG = {"seed": 0, "model": {"width": 8, "rate": 0.1}}
CODE = environment.Code("c0ffee", False)


@pytest.fixture(autouse=True)
def _known_commit(monkeypatch):
    monkeypatch.setattr(environment, "code", lambda: CODE)


def start(root, config=CONFIG, **options):
    return Run.open(root, "permuted mnist/seed=0", config, "ab12", ["python", "-m", "tasks"], **options)


# Identity


def test_the_folder_has_a_readable_name_and_a_hash_of_everything(tmp_path):
    with start(tmp_path) as run:
        assert run.folder == tmp_path / f"permuted-mnist-seed-0-{config_hash(CONFIG, 'ab12')}"
        assert json.loads((run.folder / "config.json").read_text()) == CONFIG
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


# Environment


def test_the_environment_says_what_ran_where(tmp_path):
    with start(tmp_path) as run:
        record = json.loads((run.folder / "environment.json").read_text())
    assert record["command"] == ["python", "-m", "tasks"]
    assert (record["commit"], record["dirty"], record["fingerprint"], record["device"]) == (
        "c0ffee",
        False,
        "ab12",
        "cpu",
    )
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["versions"]["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert (record["machine"]["cores"], record["machine"]["threads"]) == (os.cpu_count(), torch.get_num_threads())
    assert record["machine"]["processor"]
    assert record["resumed"] == []
    assert os.uname().nodename not in json.dumps(record)


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_commit_is_that_of_the_checkout_and_results_are_no_change_of_code(tmp_path, monkeypatch):
    monkeypatch.undo()
    assert environment.code(tmp_path) == environment.Code("unknown", None)
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    clean = environment.code(tmp_path)
    assert (len(clean.commit), clean.dirty) == (40, False)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "ledger.json").write_text("[]")
    assert environment.code(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert environment.code(tmp_path) == environment.Code(clean.commit, True)
    inner = tmp_path / "vendored"
    inner.mkdir()
    assert environment.code(inner) == environment.Code("unknown", None)


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
from tasks.runs import Run
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
        assert [line["step"] for line in run.metrics()] == [1, 2]
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
        run.save({}, 1)
        with pytest.raises(ValueError, match="step 1; got step 2"):
            run.rewind(2)
        (run.folder / "metrics.jsonl").write_bytes(b"")
        with pytest.raises(UserError, match="lacks 1 lines"):
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
        assert (run.resumed.commit, run.resumed.began, run.resumed.elsewhere) == ("beef", "c0ffee", True)
        record = json.loads((run.folder / "environment.json").read_text())
        assert record["commit"] == "c0ffee"
        assert [(entry["commit"], entry["dirty"], entry["step"]) for entry in record["resumed"]] == [
            ("c0ffee", False, 4),
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


# Checkpoints as files

PAIR = namedtuple("PAIR", "a b")


def round_trip(tree, tmp_path):
    (tmp_path / "tree").write_bytes(to_bytes(tree))
    return from_file(tmp_path / "tree")


def test_plain_values_come_back_as_they_were(tmp_path):
    tree = {
        0: "int key",
        "0": "text key",
        (1, "a"): [],
        "tuple": (1, (), [2, None, True, False]),
        "floats": [0.1, -0.0, 1e-320, math.inf, -math.inf, 1.0],
        "text": ["", "f", "ü\n", '["t", "x"]'],
        "marks": ["t", "f"],
        "large": 2**80,
        None: {},
    }
    back = round_trip(tree, tmp_path)
    assert back == tree
    assert repr(back) == repr(tree)
    assert math.isnan(round_trip([math.nan], tmp_path)[0])


def test_tensors_come_back_bit_for_bit_wherever_they_lie(tmp_path):
    a, b = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([math.nan, -0.0, 1e-40])
    tree = {
        0: a,
        "0": b,
        "x/y": a.t(),
        "x": {"y": torch.tensor(True)},
        "tied": (a, a[:2]),
        "none": torch.empty(0, 5, dtype=torch.int8),
        "half": a.bfloat16(),
        "parameter": torch.nn.Parameter(a),
    }
    back = round_trip(tree, tmp_path)
    assert list(back) == list(tree)
    for found, sent in (
        (back[0], a),
        (back["0"], b),
        (back["x/y"], a.t()),
        (back["x"]["y"], tree["x"]["y"]),
        (back["tied"][0], a),
        (back["tied"][1], a[:2]),
        (back["none"], tree["none"]),
        (back["half"], tree["half"]),
        (back["parameter"], a),
    ):
        assert (found.dtype, found.shape, found.requires_grad) == (sent.dtype, sent.shape, False)
        # Bytes, because nan equals nothing and -0.0 equals 0.0.
        assert torch.equal(found.flatten().view(torch.uint8), sent.detach().flatten().view(torch.uint8))
    assert round_trip(a, tmp_path).equal(a)


def test_an_optimiser_goes_on_as_if_it_had_never_stopped(tmp_path):
    def make():
        weight = torch.nn.Parameter(torch.arange(3.0))
        return weight, torch.optim.AdamW([weight], lr=0.1, betas=(0.8, 0.99))

    def step(weight, optimiser):
        optimiser.zero_grad()
        weight.square().sum().backward()
        optimiser.step()

    weight, optimiser = make()
    for _ in range(3):
        step(weight, optimiser)
    saved = round_trip({"weight": weight, "optimiser": optimiser.state_dict()}, tmp_path)
    other, resumed = make()
    other.data.copy_(saved["weight"])
    resumed.load_state_dict(saved["optimiser"])
    for _ in range(3):
        step(weight, optimiser)
        step(other, resumed)
    assert torch.equal(weight, other)
    assert saved["optimiser"]["param_groups"][0]["betas"] == (0.8, 0.99)


def test_equal_trees_give_equal_bytes():
    def tree():
        return {str(i): {i: torch.full((2,), i), "f": 0.1} for i in range(20)}

    # safetensors orders several keys of metadata anew at each call, so a second key would show here.
    assert len({to_bytes(tree()) for _ in range(20)}) == 1


@pytest.mark.parametrize("value", [{1, 2}, object(), PAIR(1, 2), np.int64(3), b"x"])
def test_what_a_checkpoint_does_not_hold_is_named_with_its_place(value):
    with pytest.raises(TypeError, match="at 'a/1'"):
        to_bytes({"a": [0, value]})


def test_ordered_dicts_and_sizes_become_plain_ones(tmp_path):
    back = round_trip({"state": OrderedDict(b=1, a=2), "size": torch.Size([2, 3])}, tmp_path)
    assert back == {"state": {"b": 1, "a": 2}, "size": (2, 3)}
    assert (type(back["state"]), list(back["state"]), type(back["size"])) == (dict, ["b", "a"], tuple)


def test_a_broken_checkpoint_is_told_in_one_line(tmp_path):
    with start(tmp_path) as run:
        run.save({"a": torch.ones(100)}, 1)
        path = run.folder / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(UserError, match="must be a checkpoint of a run"):
            run.load()


# Files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "half")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"new"


def test_json_is_strict_and_exact():
    record = {"nan": math.nan, "inf": (math.inf, -math.inf), "one": np.float32(1), "t": torch.tensor([1, 2]), "f": 0.1}
    assert strict(record) == {"nan": "nan", "inf": ["inf", "-inf"], "one": 1.0, "t": [1, 2], "f": 0.1}
    assert math.isnan(float(json.loads(dumps(record))["nan"]))
    assert canonical({"b": 1, "a": 2}) == '{"a":2,"b":1}'
    with pytest.raises(TypeError, match=r"got 1 in value\.a"):
        strict({"a": {1: 2}})
    with pytest.raises(TypeError, match=r"got set in value\.a\[0\]"):
        strict({"a": [{1}]})
