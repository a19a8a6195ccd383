"""Any command line ends in 0, or in one line and 2: never in a traceback, never with a folder that was left half made."""

import contextlib
import io
import os
import random
import re
import shutil
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from tasks.commands.cli import main
from tests.images import write
from tests.tasks.commands.lines import draw

SLOW = int(os.environ.get("LINES", "2000"))


def pictures_in(root: Path, name: str) -> Path:
    """A folder of that name with two classes of ten pictures."""
    for part in "ab":
        (root / name / part).mkdir(parents=True, exist_ok=True)
        for number in range(10):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / part / f"{number}.png")
    return root / name


def wrong(arguments: list[str], root: Path) -> str:
    """What is wrong with how a command ended; '' where nothing is."""
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        try:
            status = main(arguments)
        except SystemExit as error:  # what argparse refuses
            status = -1 if error.code == 2 else 1
        except BaseException:
            return traceback.format_exc()
    # Progress of runs that were right until then stands on the same stream, a line of its own with the steps.
    lines = [line for line in told.getvalue().splitlines() if not re.search(r"  \d+/\d+ \(", line)]
    left = [path.name for path in root.glob("*") if not (path / "result.json").exists()] if root.exists() else []
    if status == 0 and not left:
        return ""
    if status == -1:
        return "" if "usage" in told.getvalue() and not left else f"argparse: {told.getvalue()}"
    if status != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
        return f"status {status}, said {lines}"
    if left and "the loss must stay finite" not in lines[0]:
        return f"left {left}; {lines[0]}"
    return ""


def lines(root: Path, count: int, seed: int) -> Iterator[tuple[int, list[str], str]]:
    """The lines that end wrong, with their numbers and with what is wrong."""
    data = write(write(root / "data", train=160), "drawings", side=28, train=160)
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        arguments = draw(rng, lambda name: pictures_in(root / "pictures", name))
        if len(arguments) > 1 and arguments[0] in ("train", "select"):
            arguments = [*arguments[:1], f"data.root={data}", *arguments[1:], "--root", str(root / "runs")]
        # Drawings take most of the time of a small run, and have tests of their own.
        drawn = mock.patch("tasks.commands.train.write", lambda runs, page, *_, **__: page)
        with warnings.catch_warnings(), drawn if number else contextlib.nullcontext():
            warnings.simplefilter("ignore")
            found = wrong(arguments, root / "runs")
        shutil.rmtree(root / "runs", ignore_errors=True)
        yield number, arguments, found


def test_some_command_lines_end_in_zero_or_in_one_line(tmp_path: Path) -> None:
    found = [(arguments, end) for _, arguments, end in lines(tmp_path, 150, 0) if end]
    assert found == []


@pytest.mark.check
@pytest.mark.timeout(3600)
def test_many_command_lines_end_in_zero_or_in_one_line(tmp_path: Path) -> None:
    found = [(arguments, end) for _, arguments, end in lines(tmp_path, SLOW, 1) if end]
    assert found == []
