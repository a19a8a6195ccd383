"""Tests of experiments stand where what they test stands: tests/tasks/data/test_load.py beside tasks/data/load.py."""

import pytest

from tests.house.source import ROOT, files, name_of

TESTS = [path for path in files("tests/tasks") if path.name.startswith("test_")]


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_a_test_stands_in_a_folder_of_the_tree(path: object) -> None:
    folder = path.parent.relative_to(ROOT / "tests")  # type: ignore[attr-defined]
    assert folder.parts != ("tasks",)
    assert (ROOT / folder).is_dir()


def test_no_test_file_is_too_long() -> None:
    assert [name_of(path) for path in files("tests") if len(path.read_text(encoding="utf-8").splitlines()) > 300] == []
