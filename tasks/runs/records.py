"""The files of a run as readers take them: each checked against the digest that was written with it, where there is one.

environment.json   holds its own digest and that of config.json
checkpoint         holds its own
digests.json       holds its own and that of the first lines of metrics.jsonl, written before each checkpoint; of a finished
                   run that of result.json, written before it
"""

import json
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.runs.digests import CONFIG, REMEDY, check, parsed, read_bounded, read_sealed

COUNT = "lines"
DIGESTS, METRICS, RESULT, CHECKPOINT = "digests.json", "metrics.jsonl", "result.json", "checkpoint.safetensors"


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a run. UserError where it is not as it was written."""
    environment = environment_of(folder) if (folder / "environment.json").exists() else {}
    return read_bounded(folder / "config.json", environment.get(CONFIG))


def environment_of(folder: Path) -> dict[str, Any]:
    """The surroundings of a run. UserError where they are not as they were written."""
    return read_sealed(folder / "environment.json", old=True)


def result_of(folder: Path) -> dict[str, Any]:
    """The result of a finished run. OSError where there is none, UserError where it is not as it was written."""
    path = folder / RESULT
    content = path.read_bytes()
    check(path, content, digests_of(folder).get(RESULT))
    return parsed(content, path)


def metrics_of(folder: Path) -> list[bytes]:
    """The whole lines of a run's metrics; a torn last line is left out. UserError where lines are not as they were written."""
    path, account = folder / METRICS, digests_of(folder)
    lines = whole_lines(path)
    if METRICS in account:
        count = account[COUNT]
        if len(lines) < count or (RESULT in account and len(lines) > count):
            raise UserError(lacks(path, count - len(lines)))
        check(path, b"".join(lines[:count]), account[METRICS])
    return lines


def lacks(path: Path, missing: int) -> str:
    """What is said of metrics that have other lines than were written."""
    has = f"lacks {missing} lines of before the checkpoint" if missing > 0 else f"has {-missing} lines too many"
    return f"{path} {has}; restore it, or remove {path.parent}"


def digests_of(folder: Path) -> dict[str, Any]:
    """The account of a run's metrics and result, by file; none where it was written before there were any."""
    path = folder / DIGESTS
    return read_sealed(path) if path.exists() else {}


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that end; none where there is no file."""
    if not path.exists():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def read_lines(path: Path, lines: list[bytes]) -> list[dict[str, Any]]:
    """Lines of metrics as JSON. UserError names the line that is none."""
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"metrics are a JSON object a line; {path}:{number} is none; {REMEDY}") from error
    return found
