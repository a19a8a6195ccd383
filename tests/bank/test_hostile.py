"""A store that means harm, or that a disk has bitten: one line, no memory beyond what its files promise, and no half a file."""

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from neuromod import (
    Affine,
    Head,
    LowRankDelta,
    Modulated,
    Modulator,
    Store,
    Table,
    Target,
    TopK,
    save_pretrained,
)
from neuromod.bank import entry
from tests.bank.models import model
from tests.bank.stores import edited, task_file
from tests.refusals import refuses

LOW = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
STRANGE = tuple(
    getattr(torch, name)
    for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "complex64", "float8_e4m3fn", "float8_e5m2")
)


def floats() -> Modulated:
    t = Target(
        nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)).requires_grad_(False), torch.zeros(2, 6)
    )
    kinds = ((Affine(), t.norms()), (LowRankDelta(2), t.weights("0.*")), (Head(), t.head()))
    made = Modulated(t, *(Modulator(kind, Table(1), sites, seed=0) for kind, sites in kinds))
    made.seal(0)
    return made


def resigned(folder: Path, made: Modulated, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """The file of task 0 with other content and the SHA-256 that belongs to it."""
    rows = {n: {k: v.clone() for k, v in m.sealed.row(0).items()} for n, m in made.named_modulators().items()}
    for row in rows.values():
        change(row)
    tensors = {f"{name}/{key}": value for name, row in rows.items() for key, value in row.items()}
    fingerprint = made.target.fingerprint()
    told = {"format": 1, "task": 0, "target": fingerprint, "sha256": entry.digest(0, fingerprint, rows), "codes": {}}
    task_file(folder).write_bytes(save(tensors, {"neuromod": json.dumps(told)}))


@pytest.mark.parametrize("part", ["gain", "a", "weight"])
@pytest.mark.parametrize("dtype", STRANGE, ids=str)
def test_numbers_at_rest_are_real_floats(tmp_path: Path, part: str, dtype: torch.dtype) -> None:
    made = floats()
    save_pretrained(made, tmp_path)

    def change(row: dict[str, Tensor]) -> None:
        row.update({key: value.to(dtype) for key, value in row.items() if key.endswith(f"/{part}")})

    resigned(tmp_path, made, change)
    for with_model in (None, made):
        with refuses(repr(part), str(dtype), "0.safetensors"):
            Store.open(tmp_path).read(0, with_model)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_any_real_float_is_taken(tmp_path: Path, dtype: torch.dtype) -> None:
    made = floats()
    save_pretrained(made, tmp_path)
    resigned(tmp_path, made, lambda row: row.update({key: value.to(dtype) for key, value in row.items()}))
    assert all(v.dtype == dtype for row in Store.open(tmp_path).read(0).values() for v in row.values())


def test_bits_are_bytes(folder: Path) -> None:
    for dtype in (torch.bool, torch.int8, torch.float16):
        resigned(folder, model(), lambda row: row.update({k: v.to(dtype) for k, v in row.items() if "bits" in k}))  # noqa: B023
        with refuses("'bits'", str(dtype)):
            Store.open(folder).read(0)


@pytest.mark.parametrize("task", [True, 0.0, "1", -1, None, torch.tensor(0.0), [0]])
def test_an_id_that_is_none(folder: Path, task: Any) -> None:
    opened, made = Store.open(folder), model()
    before = sorted(p.name for p in (folder / "tasks").iterdir())
    for asked in (lambda: opened.append(made, task), lambda: opened.read(task), lambda: opened.load(made, [task])):
        with refuses("a task id is an integer", "got"):
            asked()
    assert task not in opened
    assert sorted(p.name for p in (folder / "tasks").iterdir()) == before


def test_an_id_of_numpy_is_one(folder: Path, tmp_path: Path) -> None:
    opened, made = Store.open(folder), model()
    assert np.int64(1) in opened
    assert opened.read(np.int64(1)).keys() == opened.read(torch.tensor(1)).keys()
    other = Store.create(tmp_path / "other", made)
    other.append(made, np.int64(2))  # type: ignore[arg-type]
    assert other.tasks() == (2,)


# ---- memory --------------------------------------------------------------------------------------------------------

PROBE = """
import json, resource, sys
import torch
from neuromod import RefusedError, Store, from_pretrained
from tasks.networks import mlp
from tests.bank.models import target
mlp((4,), 2, (3,)), target()
small = torch.zeros(8) + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
said = []
for how, folder in json.loads(sys.argv[1]):
    try:
        if how == "read":
            Store.open(folder).read(0)
        elif how == "target":
            from_pretrained(folder, target=target())
        else:
            from_pretrained(folder, constructor=mlp)
        said.append("taken")
    except RefusedError as error:
        said.append(str(error))
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        said.append(f"\\n{type(error).__name__}: {error}")
print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024]))
"""


def probed(cases: list[tuple[str, Path]]) -> tuple[list[str], int]:
    """What each store is answered with, and the bytes by which all of them together moved the peak of the memory."""
    given = json.dumps([(how, str(folder)) for how, folder in cases])
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", PROBE, given],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    said, peak = json.loads(found.stdout.splitlines()[-1])
    return said, peak


def bomb(folder: Path) -> None:
    """A mask of 4 billion weights as a quarter of a megabyte of zeros, deflated."""
    side, name = 1 << 16, "1.weight"
    edited(folder, lambda c: [s.update(shape=[side, side]) for s in sites(c) if s["name"] == name])
    made, key = model(), f"threshold/{name.replace('.', '/')}/bits"
    rows = {n: m.sealed.row(0) for n, m in made.named_modulators().items()}
    tensors = {f"{n}/{k}": v for n, row in rows.items() for k, v in row.items()}
    coder = zlib.compressobj(9)
    blob = coder.compress(bytes(side * side // 8)) + coder.flush()
    tensors[key] = torch.frombuffer(bytearray(blob), dtype=torch.uint8)
    told = {"format": 1, "task": 0, "target": made.target.fingerprint(), "sha256": "0" * 64, "codes": {key: "huffman"}}
    task_file(folder).write_bytes(save(tensors, {"neuromod": json.dumps(told)}))


def sites(config: dict[str, Any]) -> list[dict[str, Any]]:
    return [site for modulator in config["modulators"] for site in modulator["sites"]]


def source(**arguments: Any) -> Callable[[dict[str, Any]], Any]:
    def change(config: dict[str, Any]) -> None:
        config["modulators"][1]["arguments"] = arguments

    return change


def hypernet(**arguments: Any) -> Callable[[dict[str, Any]], Any]:
    usual = {"reads": "task", "tasks": [], "code": [16], "labels": None, "hidden": 64, "learn_body": True}
    whole = {"chunk": None, "chunk_code": 8} | usual | arguments
    return lambda c: c["modulators"][1].update(source="Hypernet", arguments=whole)


HUGE = 1 << 40
HOSTILE: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "an example": ("drawn", lambda c: c["target"].update(example=[[[HUGE, 12], "float32"]])),
    "an example of nothing": ("drawn", lambda c: c["target"].update(example=[])),
    "an example of half": ("drawn", lambda c: c["target"].update(example=[[[0.5, 12], "float32"]])),
    "an example of text": ("drawn", lambda c: c["target"].update(example="xy")),
    "an example below zero": ("drawn", lambda c: c["target"].update(example=[[[-1, 12], "float32"]])),
    "an example of no dtype": ("drawn", lambda c: c["target"].update(example=[[[2, 12], "quint8"]])),
    "a batch axis": ("drawn", lambda c: c["target"].update(batch_axis="x")),
    "a width of a recipe": ("drawn", lambda c: c["target"]["recipe"]["kwargs"].update(hidden=[HUGE])),
    "widths of a recipe": ("drawn", lambda c: c["target"]["recipe"]["kwargs"].update(hidden=[20000, 20000])),
    "a keyword of a recipe": ("drawn", lambda c: c["target"]["recipe"]["kwargs"].update(hiden=[3])),
    "a field of a recipe": ("drawn", lambda c: c["target"]["recipe"].update(other=3)),
    "a seed of a recipe": ("drawn", lambda c: c["target"]["recipe"].update(seed=None)),
    "no recipe": ("drawn", lambda c: c["target"].update(recipe=[])),
    "tasks": ("target", source(tasks=HUGE)),
    "many tasks": ("target", source(tasks=list(range(1000)))),
    "no tasks": ("target", source(tasks="many")),
    "hidden": ("target", hypernet(hidden=HUGE)),
    "hidden layers": ("target", hypernet(hidden=[1 << 20, 1 << 20])),
    "hidden text": ("target", hypernet(hidden="x")),
    "no hidden layers": ("target", hypernet(hidden=[])),
    "a code": ("target", hypernet(code=[HUGE])),
    "a code of text": ("target", hypernet(code=["x"])),
    "labels": ("target", hypernet(reads="condition", labels=HUGE)),
    "a chunk": ("target", hypernet(chunk=HUGE)),
    "chunks": ("target", hypernet(chunk=1, chunk_code=HUGE)),
    "a rank": (
        "target",
        lambda c: c["modulators"][1].update(source="LowRank", arguments={"rank": HUGE, "reads": "task"}),
    ),
    "experts": (
        "target",
        lambda c: c["modulators"][1].update(source="Mixture", arguments={"experts": HUGE, "reads": "input"}),
    ),
    "a kind's rank": (
        "target",
        lambda c: c["modulators"][0].update(kind="LowRankDelta", fields={"rank": HUGE, "alpha": None}),
    ),
    "a kind's width": ("target", lambda c: c["modulators"][0].update(kind="Head", fields={"width": HUGE})),
    "a site": ("target", lambda c: sites(c)[0].update(shape=[HUGE, HUGE])),
    "a site of text": ("target", lambda c: sites(c)[0].update(shape="abc")),
    "a site of nothing": ("target", lambda c: sites(c)[0].clear()),
    "no sites": ("target", lambda c: c["modulators"][0].update(sites=[])),
    "modulators": ("target", lambda c: c.update(modulators={"a": 1})),
    "a modulator": ("target", lambda c: c.update(modulators=[3])),
    "no modulators": ("target", lambda c: c.update(modulators=[])),
    "a target": ("target", lambda c: c.update(target=[])),
    "a coding": ("target", lambda c: c.update(coding=3)),
    "a shared state": ("target", lambda c: c.update(shared=3)),
    "a kind": ("target", lambda c: c["modulators"][0].update(kind=["Affine"])),
    "a seed": ("target", lambda c: c["modulators"][0].update(seed="x")),
    "an identity": ("target", lambda c: c["modulators"][0].update(identity="x")),
    "a subset": (
        "target",
        lambda c: c["modulators"][0].update(kind="Subset", fields={"per_output": 1e300, "seed": 0}),
    ),
}


def test_hostile_stores_get_one_line_and_no_memory(folder: Path, tmp_path: Path) -> None:
    cases = []
    for number, (how, change) in enumerate(HOSTILE.values()):
        cases.append((how, edited(Path(shutil.copytree(folder, tmp_path / f"hostile-{number}")), change)))
    bomb(Path(shutil.copytree(folder, tmp_path / "bomb")))
    said, peak = probed([*cases, ("read", tmp_path / "bomb")])
    told = dict(zip([*HOSTILE, "a bomb"], said, strict=True))
    assert {name: line for name, line in told.items() if line == "taken" or "\n" in line} == {}
    assert "would become" in told["a bomb"]
    assert peak <= 64 << 20


def test_a_config_that_is_deep_or_long(folder: Path) -> None:
    path = folder / "config.json"
    for text in (b"[" * 100_000, b'{"format": ' + b"1" * 10_000 + b"}", b"[" + b"0," * (1 << 21) + b"0]"):
        path.write_bytes(text)
        with refuses("config.json"):
            Store.open(folder)


def test_a_large_mask_that_is_honest_needs_its_model(tmp_path: Path) -> None:
    t = Target(nn.Linear(64, 64, bias=False), torch.zeros(2, 64))
    made = Modulated(t, Modulator(TopK(), Table(1), t.weights("*"), seed=0))
    made.seal(0)
    save_pretrained(made, tmp_path)
    assert Store.open(tmp_path).read(0, made)["topk"]["weight/bits"].numel() == 512
