from pathlib import Path

import pytest

from tasks.commands.rows import write_pages
from tasks.ledger import proof
from tasks.ledger.bars import load_bars
from tasks.ledger.ledger import record
from tasks.ledger.selection import file
from tasks.runs import environment
from tasks.runs.files import write_json
from tests.tasks.ledger.house import CHOICE, commit, git, ran
from tests.tasks.ledger.scratch import BARS, finished, write_bars


@pytest.fixture
def known_commit(monkeypatch):
    """No git: the commit is c0ffee..., clean."""
    monkeypatch.setattr(environment, "code", lambda: environment.Code("c0ffee" * 6, False))


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def bars(results):
    return write_bars(results, BARS)


@pytest.fixture
def runs(tmp_path, bars):
    return [finished(tmp_path, seed, value, bars=bars) for seed, value in ((2, 0.97), (0, 0.93), (1, 0.95))]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with bars, a choice, a row that missed its bar and one without a bar, all committed in that order."""
    top = tmp_path / "house"
    results = top / "results"
    write_bars(results, BARS)
    write_json(file(results, "permuted"), CHOICE)
    (top / ".gitignore").write_text("runs\n")
    git(top, "init", "-q")
    commit(top)
    code = environment.code
    monkeypatch.setattr(proof, "HERE", top)
    monkeypatch.setattr(environment, "code", lambda: code(top))
    runs = [ran(top / "runs", results, seed, value) for seed, value in enumerate((0.8, 0.85, 0.81))]
    bars = load_bars(results)
    record("psp", runs, bars, results)
    record("plain", runs[:1], bars, results)
    write_pages(results)
    commit(top)
    return results
