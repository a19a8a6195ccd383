"""A run folder of somebody else: absurd sizes, deep nests and huge texts are refused in a line, and fill no memory."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tasks.commands.cli import main
from tests.tasks.report.pages import make_run

HUGE = 10**12
MOST = 64 * 2**20


def deep(depth: int, wide: int = 1) -> Any:
    made: Any = 0
    for _ in range(depth):
        made = {str(i): made for i in range(wide)}
    return made


# What a drawing warns of is no crash.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONFIGS: dict[str, Any] = {
    "absurd sizes": {"seed": HUGE, "run": {"stream": {"tasks": HUGE}, "steps": HUGE, "outputs": HUGE, "batch": HUGE}},
    "absurd floats": {"seed": 1e300, "run": {"target": {"kwargs": {"hidden": [HUGE] * 100}}}},
    "deep": deep(200),
    "deep and wide": deep(12, 3),
    "a huge text": {"title": "x" * 5_000_000},
    "huge keys": {"k" * 100_000: {str(i): "seed" for i in range(1000)}},
    "another kind": {"seed": [1, {"a": None}], "run": "nothing", "data": 3},
}
RESULTS: dict[str, Any] = {
    "a matrix of text": {"measures": {"matrix": {"matrix": "x"}}},
    "a matrix of nothing": {"measures": {"matrix": {"matrix": [[]]}}},
    "a measure that is a list": {"measures": {"gates": [1, 2]}},
    "absurd tasks": {"data": {"name": "x", "sha256": None, "substitute": None, "tasks": HUGE}},
    "tasks of text": {"data": {"name": "x", "sha256": None, "substitute": None, "tasks": "many"}},
    "costs of text": {"costs": {"parameters_per_task": "x", "bytes_per_task": None, "parameters_shared": {}}},
    "streaming": {"measures": {"streaming": {"lengths": [HUGE], "sgd": {}}}},
    "a deep measure": {"measures": {"masks": deep(150)}},
}


def reported(folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Write the report of a run, or refuse it in a line, within the memory."""
    tracemalloc.start()
    try:
        status = main(["report", str(folder), "--out", str(out)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    lines = capsys.readouterr().err.splitlines()
    assert (status, lines) == (0, []) or (status == 2 and len(lines) == 1 and lines[0].startswith("error: "))
    size = sum(path.stat().st_size for path in folder.glob("*.json*"))
    assert peak < max(MOST, 10 * size)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_is_shown_or_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", 0)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
    reported(folder, tmp_path / "r.html", capsys)


@pytest.mark.parametrize("name", RESULTS)
def test_a_hostile_result_is_drawn_or_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", 0)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | RESULTS[name]))
    reported(folder, tmp_path / "r.html", capsys)


@pytest.mark.parametrize("name", ["config.json", "environment.json", "result.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"a":' * 100_000])
def test_a_torn_file_is_one_line(name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", 0)
    (folder / name).write_text(content)
    reported(folder, tmp_path / "r.html", capsys)
