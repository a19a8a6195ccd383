"""Banks that are filled: sealed tasks equal those of the plain loop, whatever trained beside them and wherever a run was ended."""

import json

import pytest
import torch

from neuromod import Store
from tasks.config.build import experiment
from tasks.config.load import load
from tasks.continual.bank import elsewhere
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.runs.files import read_json
from tests.tasks.continual.runs import BANK, PLAIN_BANK, run_bank
from tests.tasks.setup import bench_of, learner_of


def rows(folder):
    store = Store.open(folder / "bank")
    config = read_json(folder / "config.json")
    model = learner_of(config).model
    return {task: store.read(task, model)["threshold"] for task in store.tasks()}


def same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[task][key], b[task][key]) for task in a for key in a[task])


@pytest.mark.parametrize("together", [1, 2, 5])
def test_a_bank_holds_the_masks_of_the_plain_loop(together, data, tmp_path):
    folder = run_bank(tmp_path, data, f"together={together}")
    result = read_json(folder / "result.json")
    config = load([*PLAIN_BANK, data, "run=sequence"])
    plain = execute(config, root=tmp_path / "plain", command=["x"], results=tmp_path)
    learner = learner_of(config, plain)
    for task in range(5):
        learner.model.seal(task)
    expected = {task: learner.model.named_modulators()["threshold"].sealed.row(task) for task in range(5)}
    same(rows(folder), expected)
    final = read_json(plain / "result.json")["measures"]["matrix"]["matrix"][-1]
    measures = result["measures"]
    assert measures["matrix"]["matrix"] == [final] == [measures["bank"]["learned"]]
    assert measures["matrix"]["forgetting"] == 0


def test_an_ended_run_goes_on_with_what_is_not_sealed(data, tmp_path, monkeypatch):
    whole = run_bank(tmp_path / "whole", data)
    sealed = []
    append = Store.append

    def ends_after_two(store, model, task):
        append(store, model, task)
        sealed.append(task)
        if len(sealed) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "append", ends_after_two)
    with pytest.raises(KeyboardInterrupt):
        run_bank(tmp_path / "ended", data)
    monkeypatch.setattr(Store, "append", append)
    (ended,) = (tmp_path / "ended").iterdir()
    assert Store.open(ended / "bank").tasks() == (0, 1)
    before = {p: p.stat().st_mtime_ns for p in (ended / "bank" / "tasks").iterdir()}
    resumed = run_bank(tmp_path / "ended", data)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    same(rows(resumed), rows(whole))
    drop = ("seconds",)
    a, b = ({k: v for k, v in read_json(f / "result.json").items() if k not in drop} for f in (whole, resumed))
    assert a == b


def test_inference_at_numbers_of_tasks_and_the_replay(data, tmp_path):
    result = read_json(run_bank(tmp_path, data) / "result.json")["measures"]
    found = result["inference"]["one_shot"]
    assert set(found["at"]) == {"2", "5"}
    assert found["at"]["5"]["image"] == found["image"]
    assert set(found["groups"]) == {"2", "3"}
    assert found["task_and_class"] <= min(found["image"], found["class"])
    for asked in result["replay"].values():
        assert asked["tasks"] == 4
        assert asked["mistakes"] == round(4 * (2 - asked["new"] - asked["known"]))


def test_only_modulators_fill_a_bank(data, tmp_path):
    with pytest.raises(UserError, match="run=bank fills a bank of modulations; got learner=Dense"):
        run_bank(tmp_path, data, "learner=dense")


def test_processes_fill_the_bank_of_one(data, tmp_path):
    alone = run_bank(tmp_path / "alone", data, "together=2")
    config = load([*BANK, data, "together=2"])
    spread = execute(config, root=tmp_path / "two", command=["x"], results=tmp_path, jobs=2)
    same(rows(alone), rows(spread))
    lines = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (alone, spread)]
    a, b = ([{k: v for k, v in line.items() if k != "clock"} for line in part] for part in lines)
    assert a == b
    one, two = (read_json(f / "result.json") | {"seconds": 0} for f in (alone, spread))
    assert one == two
    assert {p.name: p.read_bytes() for p in (alone / "bank" / "tasks").iterdir()} == {
        p.name: p.read_bytes() for p in (spread / "bank" / "tasks").iterdir()
    }


def test_a_task_that_waits_for_others_is_not_spread(data, tmp_path):
    config = load([*BANK, data, "transfer=masks"])
    with pytest.raises(UserError, match="2 processes"):
        execute(config, root=tmp_path, command=["x"], results=tmp_path, jobs=2)


def test_a_worker_whose_target_is_another_is_refused(data):
    config = load([*BANK, data])
    made = bench_of(config)
    bank = experiment(config["run"])
    fields = {name: getattr(made, name) for name in ("seeds", "device", "title", "data", "log_every", "config")}
    assert len(elsewhere(fields, bank.fingerprint(made), [[0]], 0)) == 1
    with pytest.raises(
        UserError, match=r"the same target; got [0-9a-f]{12} in a worker and 0{12} here; .*--jobs 1"
    ) as caught:
        elsewhere(fields, "0" * 64, [[0]], 0)
    assert "\n" not in str(caught.value)
