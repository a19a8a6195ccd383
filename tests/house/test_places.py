"""Nothing of one machine: no place in a pin or in a tracked file."""

import re
import subprocess

import pytest

from tests.house.source import ROOT


def test_pins_name_no_place() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()
    pinned = [line.partition(";")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if line.strip()]
    assert all(re.fullmatch(r"[a-z0-9._-]+==[0-9][^\s/@]*\s*", line) for line in pinned)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="which files are tracked is known in a clone only")
def test_no_tracked_file_names_a_folder_of_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    names = [name for name in listed.decode().split("\0") if name]
    assert "neuromod/__init__.py" in names
    place = re.compile(rb"(^|[^a-z.])/(home|root|work)/", re.MULTILINE)
    there = [name for name in names if (ROOT / name).is_file()]
    assert [name for name in there if place.search((ROOT / name).read_bytes())] == []
