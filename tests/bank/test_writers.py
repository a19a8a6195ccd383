"""Two writers of one store, and processes that are killed: no sealed task is lost."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neuromod import (
    Store,
    from_pretrained,
    save_pretrained,
)
from tasks.networks import mlp
from tests.bank.models import model
from tests.bank.stores import same
from tests.refusals import refuses

WRITER = """
import sys
from pathlib import Path
from neuromod import RefusedError, Store, save_pretrained
from tests.bank.models import model
folder, tasks = sys.argv[1], [int(t) for t in sys.argv[2].split(",")]
made = model(40)
print("ready", flush=True)
sys.stdin.readline()
store, refused = Store.open(folder), []
for task in tasks:
    try:
        store.append(made, task)
    except RefusedError as error:
        assert f"task {task} " in str(error), error
        refused.append(task)
print(",".join(map(str, refused)))
"""


def test_two_writers(tmp_path: Path) -> None:
    whole = model(40)
    store = Store.create(tmp_path / "s", whole)
    shares = [range(30), range(10, 40)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "s"), ",".join(map(str, share))],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in shares
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    said = [writer.communicate()[0].strip() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    refused = sorted(int(task) for line in said for task in line.split(",") if task)
    assert refused == list(range(10, 30))  # each of both, once
    assert store.tasks() == tuple(range(40))
    after = from_pretrained(tmp_path / "s", constructor=mlp)
    assert all(same(whole, after, task) for task in range(40))
    assert [p.name for p in (tmp_path / "s").rglob("*.tmp")] == []


def test_a_kill_between_file_and_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grown = model()
    grown.add(3)
    grown.seal(3)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", die)
        patch.setattr(Path, "unlink", lambda *args, **kwargs: None)  # nobody cleans up behind a kill
        with pytest.raises(KeyboardInterrupt):
            Store.open(folder).append(grown, 3)
    assert len(list((folder / "tasks").glob(".3*.tmp"))) == 1
    store = Store.open(folder)
    assert store.tasks() == (0, 1, 2)
    assert 3 not in store
    store.append(grown, 3)
    assert same(from_pretrained(folder, constructor=mlp), grown, 3)


def test_a_creation_that_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save_pretrained(model(), tmp_path / "s")
    with refuses("config.json"):
        Store.open(tmp_path / "s")
    assert save_pretrained(model(), tmp_path / "s").tasks() == (0, 1, 2)
    with refuses("folder of its own", "config.json"):
        Store.create(tmp_path / "s", model())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda path: False)  # somebody else's config came in between
        with refuses("folder of its own", "config.json"):
            Store.create(tmp_path / "s", model())
