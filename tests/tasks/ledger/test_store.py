"""The rows on disk: each config and run once, and every row of the old ledger equal to the letter."""

import copy
import json
from pathlib import Path

import pytest

from tasks.errors import UserError
from tasks.ledger.bars import load_bars
from tasks.ledger.ledger import sealed
from tasks.ledger.store import Ledger, load, load_ledger, neat, pack, save, unpack, write_changed
from tasks.runs.files import canonical, digest, read_json

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "results"
# SHA-256 of each row of the one file that held all rows before each experiment had its own.
DIGESTS = read_json(Path(__file__).parent / "digests.json")


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return load(RESULTS)


def test_the_rows_from_before_come_back_to_the_letter(ledger: Ledger) -> None:
    old = {row["row"]: row for row in ledger.rows if "proof" not in row}
    assert len(DIGESTS) == 462
    # A row that runs again brings its proof and leaves this list; none may come without one.
    assert set(old) <= set(DIGESTS) <= {row["row"] for row in ledger.rows}
    for name, row in old.items():
        assert digest(canonical(row)) == DIGESTS[name], name
        assert sealed(row)


def test_the_files_are_small_and_what_a_command_would_write(ledger: Ledger, tmp_path: Path) -> None:
    files = sorted(RESULTS.rglob("ledger.json"))
    sizes = sorted(path.stat().st_size for path in files)
    assert sizes[len(sizes) // 2] < 8000
    assert sum(sizes) < 2600 * len(ledger.rows)
    save(ledger, load_bars(RESULTS), tmp_path)
    for path in files:
        assert (tmp_path / path.relative_to(RESULTS)).read_bytes() == path.read_bytes()


def test_equal_configs_and_runs_stand_once(ledger: Ledger) -> None:
    rows = [row for row in ledger.rows if row["experiment"] == "supsup/permuted_mnist"]
    content = pack(rows)
    assert (len(rows), len(content["configs"]), len(content["runs"]), len(content["places"])) == (3, 1, 3, 1)
    other = copy.deepcopy(rows)
    other[0]["runs"][0]["result_sha256"] = "0"  # the same config has run twice
    content = pack(other)
    assert len(content["runs"]) == 4
    assert unpack(json.loads(neat(content)))[0] == other


def test_a_file_with_the_same_bytes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    assert write_changed(path, "x")
    before = path.stat().st_mtime_ns
    assert not write_changed(path, "x")
    assert path.stat().st_mtime_ns == before
    assert write_changed(path, "y")


def test_what_is_no_ledger_is_told_in_one_line(tmp_path: Path) -> None:
    assert load_ledger(tmp_path) == []
    for text in ("{", "[1]", '{"rows": [{}]}'):
        (tmp_path / "ledger.json").write_text(text)
        with pytest.raises(UserError, match="must be a ledger as runs write it") as caught:
            load_ledger(tmp_path)
        assert "\n" not in str(caught.value)
