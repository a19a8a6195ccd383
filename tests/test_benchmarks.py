"""Bars, ratios and the exit status on made-up times; what the machine does is never asserted."""

import json
import sys

import pytest

from benchmarks import __main__ as cli
from benchmarks import machine
from benchmarks.timing import Bar, Report, Samples, interleave


@pytest.mark.parametrize(
    ("ratio", "limit", "op", "verdict"),
    [
        (1.2, 1.2, "<=", "held"),
        (1.21, 1.2, "<=", "missed"),
        (20.0, 20.0, ">=", "held"),
        (19.9, 20.0, ">=", "missed"),
        (float("nan"), 1.2, "<=", "missed"),
        (float("nan"), 1.2, ">=", "missed"),
        (99.0, None, "<=", "printed only"),
    ],
)
def test_verdict(ratio, limit, op, verdict):
    assert Bar("a / b", ratio, limit, op).verdict == verdict


def test_status_is_1_when_any_bar_falls_short():
    held, missed, printed = Bar("a", 1.0, 1.1), Bar("b", 1.2, 1.1), Bar("c", 9.0)
    assert Report("r", (held, printed)).status == 0
    assert Report("r", (held, missed, printed)).status == 1


def test_a_ratio_is_taken_turn_by_turn():
    # Slow turns are slow for both: the ratio of medians would be 3, that of the turns is 2.
    samples = Samples({"ours": [2.0, 6.0, 20.0], "plain": [1.0, 2.0, 10.0]})
    bar = samples.bar("ours / plain", "ours", "plain", 2.5)
    assert (bar.ratio, bar.low, bar.high, bar.verdict) == (2.0, 2.0, 2.5, "held")


def test_one_turn_has_a_ratio():
    assert Samples({"a": [3.0], "b": [2.0]}).bar("a / b", "a", "b").ratio == 1.5


def test_contenders_take_turns_and_warm_up_is_not_counted():
    order: list[str] = []
    ticks = iter(range(1000))
    contenders = {name: (lambda n=name: order.append(n)) for name in "abc"}
    samples = interleave(contenders, turns=3, warm_up=1, clock=lambda: float(next(ticks)))
    assert {name: len(times) for name, times in samples.seconds.items()} == {"a": 3, "b": 3, "c": 3}
    turns = ["".join(order[i : i + 3]) for i in range(0, 12, 3)]
    assert turns == ["cab", "abc", "bca", "cab"]
    assert samples.median("a") == 1.0


def test_json_and_table_say_the_same():
    report = Report("r", (Bar("a / b", 1.25, 1.1, "<=", 1.2, 1.3), Bar("c / d", 3.0)), {"threads": "1"})
    parsed = json.loads(report.json())
    assert [bar["verdict"] for bar in parsed["bars"]] == ["missed", "printed only"]
    assert parsed["conditions"] == {"threads": "1"}
    lines = report.table().splitlines()
    assert lines[3].split() == ["a", "/", "b", "1.25", "1.2", "..", "1.3", "<=", "1.1", "missed"]
    assert lines[2].index("verdict") == lines[3].index("missed") == lines[4].index("printed")
    assert lines[-1] == "threads: 1"


def test_list_names_one_benchmark_a_line(capsys):
    assert cli.main(["--list"]) == 0
    listed = capsys.readouterr().out.split()
    assert {"mask_step", "mixed_batch"} <= set(listed)
    assert not {"timing", "machine", "__main__"} & set(listed)


@pytest.mark.parametrize("arguments", [[], ["no_such_benchmark"]])
def test_a_name_is_needed(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "mask_step" in capsys.readouterr().err


@pytest.mark.parametrize(("ratio", "status"), [(1.0, 0), (2.0, 1)])
def test_the_command_runs_prints_and_exits(ratio, status, capsys, monkeypatch):
    class Fake:
        @staticmethod
        def run(*, quick: bool) -> Report:
            return Report("fake", (Bar("a / b", ratio, 1.5),), {"quick": quick})

    monkeypatch.setitem(sys.modules, "benchmarks.mask_step", Fake)
    monkeypatch.setattr(machine, "fix_environment", lambda: None)
    assert cli.main(["mask_step", "--json", "--quick"]) == status
    assert json.loads(capsys.readouterr().out)["conditions"] == {"quick": True}


@pytest.fixture
def replaced(monkeypatch) -> list[dict[str, str]]:
    calls: list[dict[str, str]] = []
    monkeypatch.setattr("os.execve", lambda path, arguments, environment: calls.append(environment))
    return calls


def test_the_process_starts_again_once(replaced, monkeypatch):
    monkeypatch.delenv("SOME_THRESHOLD_", raising=False)
    machine.fix_environment({"SOME_THRESHOLD_": "5"})
    assert replaced[0]["SOME_THRESHOLD_"] == "5"
    monkeypatch.setenv("SOME_THRESHOLD_", "5")
    machine.fix_environment({"SOME_THRESHOLD_": "5"})
    assert len(replaced) == 1
