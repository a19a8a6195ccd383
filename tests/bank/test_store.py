"""A store gives back what was sealed, bit for bit, and says what it holds."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from neuromod import (
    Affine,
    Head,
    Hypernet,
    LowRank,
    Mixture,
    Modulated,
    Modulator,
    Store,
    Table,
    Target,
    Threshold,
    calibrate,
    from_pretrained,
    save_pretrained,
)
from neuromod.seeds import generator
from tasks.networks import mlp
from tests.bank.models import X, model, target
from tests.bank.stores import LENET, lenet_masks, same, task_file
from tests.contract.cells import CONFIGS, TASKS, cell, fits
from tests.refusals import refuses

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
        lambda: Hypernet("condition", hidden=[6, 4], embedding=4),
        lambda: Hypernet("condition", labels=3),
        lambda: Hypernet("condition", embedding=(None, 4)),
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
