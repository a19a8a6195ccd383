"""A store gives back what was sealed, bit for bit, or refuses in one line; nothing that it names is run."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save, save_file
from torch import Tensor, nn

from neuromod import (
    Affine,
    Gate,
    Head,
    Hypernet,
    LowRank,
    Mixture,
    Modulated,
    Modulator,
    Recipe,
    RefusedError,
    Statistics,
    Store,
    Table,
    Target,
    Threshold,
    TopK,
    calibrate,
    from_pretrained,
    save_pretrained,
)
from neuromod.bank import config as config_file
from neuromod.bank import entry
from neuromod.seeds import generator
from tasks.networks import conv, mlp
from tests.bank.models import RECIPE, X, model, target
from tests.contract.cells import CONFIGS, TASKS, cell, fits

LENET = (784, 300, 100, 100)


def lenet_masks(tasks: int) -> Modulated:
    layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(LENET)]
    t = Target(nn.Sequential(*layers), torch.zeros(2, 784))
    made = Modulated(t, Modulator(TopK(), Table(tasks), t.weights("*"), seed=0))
    for task in range(tasks):
        made.seal(task)
    return made


def refuses(*parts: str) -> "pytest.RaisesExc[RefusedError]":
    return pytest.raises(RefusedError, match=r"\A[^\n]*" + r"[^\n]*".join(map(re.escape, parts)) + r"[^\n]*\Z")


def same(a: Modulated, b: Modulated, task: int) -> bool:
    return bool(torch.equal(a.eval()(X, task=task), b.eval()(X, task=task)))


def task_file(folder: Path, task: int = 0) -> Path:
    return folder / "tasks" / f"{task}.safetensors"


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The config with a change and the SHA-256 that belongs to it: what someone who means harm would write."""
    path = folder / "config.json"
    data = json.loads(path.read_bytes())
    del data["sha256"]
    change(data)
    number = data.pop("format")
    path.write_text(json.dumps({"format": number, "sha256": config_file._digest(data), **data}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pretrained(model(), tmp_path / "store")
    return tmp_path / "store"


# ---- what is written is read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["raw", "smallest"])
def test_a_model_comes_back(tmp_path: Path, coding: str) -> None:
    before = model()
    store = save_pretrained(before, tmp_path / "s", coding=coding)
    after = from_pretrained(tmp_path / "s", constructor=mlp)
    assert after.tasks() == store.tasks() == (0, 1, 2)
    assert len(store) == 3
    assert 2 in store
    assert 3 not in store
    assert "2" not in store
    assert all(same(before, after, task) for task in range(3))
    for task in range(3):
        for name, row in store.read(task, before).items():
            sealed = before.modulators[name].sealed.row(task)
            assert set(row) == set(sealed)
            assert all(row[key].dtype == sealed[key].dtype and torch.equal(row[key], sealed[key]) for key in row)
    after.add(3)
    before.add(3)
    assert same(before, after, 3)  # seeds are kept: the next task starts alike


def test_the_range_coder(tmp_path: Path) -> None:
    pytest.importorskip("constriction", reason="the range coder is an optional package")
    before = lenet_masks(2)
    save_pretrained(before, tmp_path / "s", coding="entropy")
    after = from_pretrained(tmp_path / "s", target=before.target)
    assert all(torch.equal(after.state_dict()[key], value) for key, value in before.state_dict().items())
    assert b"start+" in task_file(tmp_path / "s").read_bytes()
    with refuses("moved since its start", "pass model="):
        Store.open(tmp_path / "s").read(0)


def cells() -> list[str]:
    return [name for name in CONFIGS if fits(CONFIGS[name], "conv")]


@pytest.mark.parametrize("name", cells())
def test_every_kind_and_source(tmp_path: Path, name: str) -> None:
    made = cell(CONFIGS[name], "conv")
    before = made.model()
    for task in range(TASKS) if made.measured else ():
        calibrate(before, task, made.x + task)
    for task in before.tasks():
        before.seal(task)
    save_pretrained(before, tmp_path / "s")
    after = from_pretrained(tmp_path / "s", target=made.target())
    ids = [0] * 8 + [1] * 8
    assert torch.equal(made.call(before.eval(), ids), made.call(after.eval(), ids))


@pytest.mark.parametrize(
    "source",
    [
        lambda: Table(None),
        lambda: Hypernet("condition", hidden=[6, 4], code=4),
        lambda: Hypernet("condition", labels=3),
        lambda: Hypernet("condition", code=(None, 4)),
        lambda: Hypernet("nothing", chunk=5, chunk_code=3),
        lambda: Hypernet("activation:0", learn_body=False),
        lambda: LowRank(3, "input"),
        lambda: LowRank(3, "nothing"),
        lambda: Mixture(3, "input", form="hard"),
    ],
)
def test_what_serves_all_tasks(tmp_path: Path, source: Callable[[], Any]) -> None:
    t = target()
    before = Modulated(t, Modulator(Affine(), source(), t.norms(), seed=5))
    rng = generator(0, "moved")
    with torch.no_grad():
        for parameter in before.parameters():
            parameter += torch.randn(parameter.shape, generator=rng)
    save_pretrained(before, tmp_path / "s")
    after = from_pretrained(tmp_path / "s", target=t)
    assert {k: v.tolist() for k, v in after.state_dict().items()} == {
        k: v.tolist() for k, v in before.state_dict().items()
    }
    shape = {"labels": torch.tensor(1), "set": torch.ones(5, 4), "vector": torch.ones(4)}
    codes = getattr(before.modulators["affine"].source, "codes", None)
    said = "labels" if codes and codes.labels else "set" if codes and codes.is_set else "vector"
    call = {"condition": shape[said]} if "condition" in before.reads else {}
    assert torch.equal(before.eval()(X, **call), after.eval()(X, **call))
    with torch.no_grad():
        next(before.parameters()).add_(1)
    with refuses("stays as it was", "another folder"):
        save_pretrained(before, tmp_path / "s")


def test_sealed_experts(tmp_path: Path) -> None:
    trained = model()
    t = trained.target
    experts = trained.modulators["threshold"].blended()
    before = Modulated(t, Modulator(Threshold(), Mixture(experts, "input"), t.weights("*"), seed=9))
    save_pretrained(before, tmp_path / "s")
    assert torch.equal(before.eval()(X), from_pretrained(tmp_path / "s", target=t).eval()(X))
    by_task = Modulated(t, Modulator(Threshold(), Mixture(experts, "task", tasks=[]), t.weights("*"), seed=9))
    with refuses("sealed experts", "do not read the task"):
        save_pretrained(by_task, tmp_path / "t")


def test_heads_of_several_widths(tmp_path: Path) -> None:
    t = target()
    before = Modulated(t, Modulator(Head(), Table([]), t.head(), seed=0))
    for task, width in enumerate((2, 7)):
        before.modulators["head"].add(task, width=width)
        before.seal(task)
    save_pretrained(before, tmp_path / "s")
    after = from_pretrained(tmp_path / "s", target=t)
    assert [after(X, task=task).shape for task in (0, 1)] == [(6, 2), (6, 7)]
    assert all(same(before, after, task) for task in (0, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    t = Target(mlp((12,), 5, (10,), norm="layer").to(dtype), X.to(dtype))
    before = model(on=t)
    save_pretrained(before, tmp_path / "s")
    after = from_pretrained(tmp_path / "s", target=t)
    assert torch.equal(after(X.to(dtype), task=1), before(X.to(dtype), task=1))
    assert after.modulators["affine"].sealed.row(0)["2/gain"].dtype == dtype


def test_some_tasks_alone(folder: Path) -> None:
    task_file(folder, 0).write_bytes(b"")  # a task is read without the others
    after = from_pretrained(folder, constructor=mlp, tasks=[2, 1])
    assert after.tasks() == (1, 2)
    assert same(after, model(), 2)
    with refuses("loaded once", "task 1"):
        Store.open(folder).load(after, [1])


def test_appending_writes_one_file(folder: Path) -> None:
    def there() -> dict[Path, tuple[int, int]]:
        stats = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
        return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}

    before = there()
    grown = model()
    grown.add(7)
    with refuses("task 7 is not sealed", "model.seal(7)"):
        Store.open(folder).append(grown, 7)
    with refuses("sealed tasks; task 7 is live", "model.seal(7)"):
        save_pretrained(grown, folder)
    grown.seal(7)
    Store.open(folder).append(grown, 7)
    after = there()
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {task_file(folder, 7)}
    with refuses("never overwritten", "task 7"):
        Store.open(folder).append(grown, 7)
    assert there() == after
    assert save_pretrained(grown, folder).tasks() == (0, 1, 2, 7)
    assert same(from_pretrained(folder, constructor=mlp), grown, 7)


def test_equal_tasks_are_equal_files(folder: Path, tmp_path: Path) -> None:
    save_pretrained(model(), tmp_path / "again")
    for task in range(3):
        assert task_file(folder, task).read_bytes() == task_file(tmp_path / "again", task).read_bytes()


def test_an_empty_store(tmp_path: Path) -> None:
    store = save_pretrained(model(0), tmp_path / "s")
    assert store.tasks() == ()
    assert from_pretrained(tmp_path / "s", constructor=mlp).tasks() == ()
    with refuses("task must be in the store; got 0", "holds none"):
        from_pretrained(tmp_path / "s", constructor=mlp, tasks=[0])
    shutil.rmtree(tmp_path / "s" / "tasks")
    assert len(store) == 0


def test_bytes(tmp_path: Path) -> None:
    made = lenet_masks(3)
    store = save_pretrained(made, tmp_path / "raw", coding="raw")
    weights = sum(a * b for a, b in pairwise(LENET))
    assert weights == 275_200
    files = [task_file(tmp_path / "raw", task).stat().st_size for task in store.tasks()]
    assert 8 * sum(files) <= 1.02 * weights * 3
    everything = [path.stat().st_size for path in (tmp_path / "raw").rglob("*") if path.is_file()]
    assert store.bytes_on_disk() == sum(everything)
    assert (tmp_path / "raw" / "config.json").stat().st_size < 1000
    assert save_pretrained(made, tmp_path / "small").bytes_on_disk() < sum(everything) / 3  # masks that never moved


def test_the_card(folder: Path, tmp_path: Path) -> None:
    text = (folder / "README.md").read_text()
    for part in ("3 tasks", "| threshold | Threshold | Table, task | 3 |", "0, 1, 2", "tasks.networks.mlp:mlp"):
        assert part in text
    many = save_pretrained(model(20), tmp_path / "many")
    assert "0, 1, 2, 3, 4, ..., 15" in (many.folder / "README.md").read_text()


# ---- damage --------------------------------------------------------------------------------------------------------


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


# ---- other targets, other models -----------------------------------------------------------------------------------


def test_another_target(folder: Path) -> None:
    ours, theirs = target().fingerprint()[:12], target(4).fingerprint()[:12]
    with refuses(ours, theirs):
        from_pretrained(folder, target=target(4))
    with refuses(ours, theirs):
        Store.open(folder).append(model(seed=4), 0)
    with refuses(ours, theirs):
        Store.open(folder).load(model(seed=4))
    with refuses("'tasks.networks.mlp:mlp'", "pass constructor="):
        from_pretrained(folder)
    with refuses("'tasks.networks.mlp:mlp'", "the function"):
        from_pretrained(folder, constructor="tasks.networks.mlp:mlp")  # type: ignore[arg-type]
    with refuses("drop one"):
        from_pretrained(folder, target=target(), constructor=mlp)
    with refuses("norm='frozen'", "'batch'"):
        from_pretrained(folder, target=Target(RECIPE.build(), X, norm="batch"))
    with refuses("this is"):
        from_pretrained(folder, constructor=lambda **kwargs: mlp(**kwargs | {"hidden": (9, 8)}), example=X)


def test_another_model(folder: Path) -> None:
    t = target()
    others = (
        Modulated(t, Modulator(Threshold(), Table(1), t.weights("*"), seed=0)),
        Modulated(t, Modulator(Threshold(), Table(1), t.weights("*"), seed=1), model(on=t).modulators["affine"]),
    )
    for other in others:
        with refuses("one set of modulators", "threshold: Threshold x Table, affine"):
            Store.open(folder).load(other)
    with refuses("one set of modulators"):
        Store.open(folder).append(others[0], 0)


def test_what_can_not_be_said(tmp_path: Path) -> None:
    class Own(Threshold):
        pass

    t = target()
    with refuses("neuromod's own kinds and sources", "Own"):
        save_pretrained(Modulated(t, Modulator(Own(), Table([]), t.weights("*"), seed=0)), tmp_path)
    body = Hypernet("input", body=nn.Linear(12, 3))
    with refuses("bodies of hidden layers", "Linear"):
        save_pretrained(Modulated(t, Modulator(Gate("doubled"), body, t.norms(), seed=0)), tmp_path)
    odd = Recipe(lambda **kwargs: mlp((12,), 5, (10,)), {"device": torch.device("cpu")})
    with refuses("in JSON", "without recipe="):
        save_pretrained(plain(odd), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with refuses("'smallest'"):
        Store.create(tmp_path, model(), coding="smalest")


def plain(recipe: Recipe) -> Modulated:
    t = Target.from_recipe(recipe, X)
    return Modulated(t, Modulator(Threshold(), Table([]), t.weights("*"), seed=0))


def test_no_task_is_read(tmp_path: Path) -> None:
    t = target()
    made = Modulated(t, Modulator(Affine(), Table(None), t.norms(), seed=0))
    store = save_pretrained(made, tmp_path)
    with refuses("where a modulator reads it", "task 0"):
        store.append(made, 0)


# ---- nothing that is named is run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["modulators"][0].update(kind="os.system"),
        lambda c: c["modulators"][0].update(kind="Kind"),
        lambda c: c["modulators"][0].update(source="os.system"),
        lambda c: c["modulators"][0].update(source="tests.bank.trap:go"),
        lambda c: c["modulators"][0].update(name="__class__"),
        lambda c: c["modulators"][0]["fields"].update(__class__="os"),
        lambda c: c["modulators"][0]["arguments"].update(body="tests.bank.trap:go"),
        lambda c: c["modulators"][0]["sites"][0].update(name="forward"),
        lambda c: c["modulators"][0]["sites"][0].update(shape=[1]),
        lambda c: c["modulators"][0].pop("seed"),
        lambda c: c.pop("target"),
        lambda c: c.update(modulators=3),
        lambda c: c["target"].update(recipe={"constructor": "os:system", "kwargs": {"command": "echo"}}),
    ],
)
def test_a_hostile_config(folder: Path, change: Callable[[dict[str, Any]], None], monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "system", lambda *a, **k: pytest.fail("was run"))
    edited(folder, change)
    loaded = set(sys.modules)
    with pytest.raises(RefusedError, match=r"\A[^\n]*\Z"):
        from_pretrained(folder, target=None if "os:system" in (folder / "config.json").read_text() else target())
    assert set(sys.modules) == loaded


# ---- several writers, and a kill -----------------------------------------------------------------------------------

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
