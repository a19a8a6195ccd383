import pytest

from tasks.runs import environment
from tests.ledger.scratch import BARS, finished, write_bars


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
