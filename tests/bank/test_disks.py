"""A disk that bites: a full one leaves no torn file, a flipped bit is refused by the name of its file."""

import errno
import random
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from neuromod import Gate, Hypernet, Modulated, Modulator, RefusedError, Store, from_pretrained, save_pretrained
from neuromod.bank import store
from tasks.networks import mlp
from tests.bank.models import model
from tests.refusals import refuses


def test_a_full_disk_leaves_no_torn_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    opened, made = Store.open(folder), model(4)
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(store.os, "fsync", full)
    for write in (lambda: opened.append(made, 3), opened.describe, lambda: Store.create(tmp_path / "new", made)):
        with refuses("each whole", "No space left on device", "make room"):
            write()
    assert sorted(folder.rglob("*")) == before
    assert [p for p in (tmp_path / "new").rglob("*") if p.is_file()] == []


def test_folders_that_are_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with refuses("each whole", "file", "choose another folder"):
        Store.create(tmp_path / "file" / "store", model())
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "tasks").write_text("mine")
    with refuses("folder of its own", "tasks"):
        Store.create(tmp_path / "odd", model())
    for name in (None, 3, b"x", "a\0b"):
        with refuses("a folder is named by text or a path"):
            Store.open(name)  # type: ignore[arg-type]
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    with refuses("config.json", "restore it"):
        Store.open(folder)


def test_a_network_is_no_target(folder: Path) -> None:
    with refuses("target= is the frozen network as a Target", "Sequential", "Target(net, example)"):
        from_pretrained(folder, target=mlp((12,), 5, (10, 8), norm="layer"))  # type: ignore[arg-type]


def kept(path: Path) -> dict[str, dict[str, Tensor]]:
    """All that a store holds."""
    opened, t = Store.open(path), model().target
    made = from_pretrained(path, target=t)
    rows = {f"{task}/{n}": row for task in opened.tasks() for n, row in opened.read(task, made).items()}
    return rows | {"shared": opened.shared()}


def flips(folder: Path, count: int) -> tuple[int, list[str]]:
    """How many of ``count`` flipped bits of all files were refused by the name of their file, and what was said of the others."""
    made, rng = model(), random.Random(0)
    hyper = Modulator(Gate("doubled"), Hypernet("input", hidden=4), made.target.norms(), seed=2)
    both = Modulated(made.target, *made.named_modulators().values(), hyper)
    save_pretrained(both.eval(), folder, coding="smallest")
    kept(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "README.md")
    wholes = {path: path.read_bytes() for path in files}
    refused, silent = 0, []
    for number in range(count):
        path = files[number % len(files)]
        place = rng.randrange(8 * len(wholes[path]))
        broken = bytearray(wholes[path])
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        try:
            kept(folder)
            silent.append(f"{path.name} bit {place} was taken")
        except RefusedError as error:
            named = path.name in str(error) and "\n" not in str(error)
            refused += named
            silent += [] if named else [f"{path.name} bit {place}: {error}"]
        finally:
            path.write_bytes(wholes[path])
    return refused, silent


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.check)])
def test_no_flipped_bit_of_a_store_is_taken(tmp_path: Path, count: int) -> None:
    assert flips(tmp_path / "s", count) == (count, [])
