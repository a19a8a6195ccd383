"""A store that is damaged, foreign or newer is refused in one line, and loses no sealed task."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save, save_file
from torch import Tensor

from neuromod import (
    Affine,
    Modulated,
    Modulator,
    RefusedError,
    Statistics,
    Store,
    Table,
    Target,
    from_pretrained,
    save_pretrained,
)
from neuromod.bank import entry
from tasks.networks import conv
from tests.bank.models import model, target
from tests.bank.stores import edited, task_file
from tests.refusals import refuses


@pytest.mark.parametrize("coding", ["raw", "smallest"])
def test_a_flipped_bit(tmp_path: Path, coding: str) -> None:
    before = model()
    store = save_pretrained(before, tmp_path / "s", coding=coding)
    path = task_file(tmp_path / "s")
    whole = path.read_bytes()
    rows = {n: {k: value.clone() for k, value in row.items()} for n, row in store.read(0, before).items()}
    refusals = []
    for place in random.Random(0).sample(range(8 * len(whole)), 1500):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        try:
            found = store.read(0, before)
        except RefusedError as error:
            refusals.append(str(error))
            continue
        assert all(torch.equal(found[n][k], value) for n, row in rows.items() for k, value in row.items())
    assert len(refusals) > 1450
    assert not any("\n" in line for line in refusals)


def test_a_truncated_file(folder: Path) -> None:
    store, path = Store.open(folder), task_file(folder)
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with refuses("file of task 0 is damaged"):
            store.read(0, model())


def test_a_file_of_another_task_or_program(folder: Path) -> None:
    store, path = Store.open(folder), task_file(folder)
    path.write_bytes(task_file(folder, 1).read_bytes())
    with refuses("task 0 is damaged", "says that it is of task 1"):
        store.read(0, model())
    for metadata in (None, {"format": "pt"}, {"neuromod": "no json"}, {"neuromod": "[]"}, {"neuromod": "{}"}):
        save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
        with refuses("task 0 is damaged", "not written by neuromod"):
            store.read(0)


def resigned(folder: Path, change: Callable[[dict[str, Tensor]], None], **said: Any) -> None:
    """A task file with other content and a SHA-256 that belongs to it."""
    store = Store.open(folder)
    rows = {name: modulator.sealed.row(0) for name, modulator in model().named_modulators().items()}
    tensors = {f"{name}/{key}": value.clone() for name, row in rows.items() for key, value in row.items()}
    change(tensors)
    split = {name: {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{name}/")} for name in rows}
    fingerprint = store.config.target.fingerprint
    told = {"format": 1, "task": 0, "target": fingerprint, "sha256": entry.digest(0, fingerprint, split), "codes": {}}
    task_file(folder).write_bytes(save(tensors, {"neuromod": json.dumps(told | said)}))


def test_content_that_does_not_fit(folder: Path) -> None:
    store = Store.open(folder)
    bits, gain = "threshold/1/weight/bits", "affine/2/gain"
    resigned(folder, lambda t: None)
    store.read(0)
    resigned(folder, lambda t: t.update({bits: t[bits][:-1]}))
    with refuses("'bits' at '1.weight' of 'threshold' has the shape (15,)", "(14,)"):
        store.read(0)
    resigned(folder, lambda t: t.update({bits: t[bits].float()}))
    with refuses("'bits' at '1.weight'", "torch.float32"):
        store.read(0)
    resigned(folder, lambda t: t.update({bits: t[bits][:-1]}), codes={bits: "huffman"})
    with refuses("damaged"):
        store.read(0)
    resigned(folder, lambda t: t.update({gain: t[gain] * torch.nan}))
    with refuses("finite", "task 0 has NaN", "'2' of 'affine'"):
        store.read(0)
    resigned(folder, lambda t: t.pop(gain) is None)
    with refuses("parts ['bias', 'gain']", "['bias']"):
        store.read(0)
    resigned(folder, lambda t: t.update({"other/0/bits": t[bits].clone()}))
    with refuses("damaged"):
        store.read(0)
    resigned(folder, lambda t: None, format=2)
    with refuses("tasks of format 1", "is of 2"):
        store.read(0)
    resigned(folder, lambda t: None, target="ab" * 32)
    with refuses("theirs is abababababab, this is", target().fingerprint()[:12]):
        store.read(0)


def test_numbers_that_are_not_are_not_written(tmp_path: Path) -> None:
    t = Target(conv((2, 8, 8), 5, (4, 6)), torch.randn(6, 2, 8, 8), norm="batch")
    made = Modulated(t, Modulator(Statistics(), Table(1), t.statistics(), seed=0))
    made.seal(0)
    with refuses("finite", "calibrate(model, task, data)"):
        save_pretrained(made, tmp_path / "s")
    assert Store.open(tmp_path / "s").tasks() == ()


def test_not_a_store(tmp_path: Path) -> None:
    for place in (tmp_path / "absent", tmp_path):
        with refuses("folder with a config.json", "save_pretrained(model, folder)"):
            Store.open(place)
    (tmp_path / "README.md").write_text("mine")
    with refuses("folder of its own", "README.md"):
        save_pretrained(model(), tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    (tmp_path / "config.json").write_text('{"architectures": []}')
    with refuses("damaged or of another program"):
        Store.open(tmp_path)


def test_a_damaged_config(folder: Path) -> None:
    path = folder / "config.json"
    whole = path.read_bytes()
    for place in random.Random(0).sample(range(8 * len(whole)), 400):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        with refuses("config.json"):
            Store.open(folder)
    for text in (b"", whole[:-20], b"[]", b"3", b"\xff"):
        path.write_bytes(text)
        with refuses("config.json is damaged"):
            Store.open(folder)


def test_a_newer_format(folder: Path) -> None:
    edited(folder, lambda c: c.update(format=2, other="what is to come"))
    with refuses("stores of format 1", "is 2", "newer"):
        Store.open(folder)


def test_shared_state_that_is_damaged(tmp_path: Path) -> None:
    t = target()
    save_pretrained(Modulated(t, Modulator(Affine(), Table(None), t.norms(), seed=0)), tmp_path)
    state = tmp_path / "shared.safetensors"
    assert set(load(state.read_bytes())) == {f"affine/rows.all.{n}/{p}" for n in ("2", "5") for p in ("gain", "bias")}
    state.write_bytes(state.read_bytes()[:-1] + b"\1")
    with refuses("shared.safetensors", "damaged"):
        from_pretrained(tmp_path, target=t)
    state.unlink()
    with refuses("shared.safetensors", "damaged"):
        from_pretrained(tmp_path, target=t)
