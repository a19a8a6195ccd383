"""A bit that turned is never taken for what was written: whichever file of a run or of the data it stands in."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tasks.data.load import load
from tasks.errors import UserError
from tasks.runs.checkpoint import from_file, to_bytes
from tasks.runs.files import file_digest
from tasks.runs.records import config_of, environment_of, metrics_of, result_of
from tasks.runs.run import Run
from tests.images import write

pytestmark = pytest.mark.usefixtures("known_commit")

FEW, MANY = 60, 3000
CONFIG = {"seed": 0, "title": "flips", "model": {"width": 8, "rate": 0.1}}
READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint.safetensors": lambda folder: from_file(folder / "checkpoint.safetensors"),
    "metrics.jsonl": metrics_of,
    "result.json": result_of,
    "config.json": config_of,
    "environment.json": environment_of,
    "digests.json": result_of,
}


def begun(root: Path) -> Run:
    """A run with two checkpoints behind it, open."""
    run = Run.open(root, "flips", CONFIG, "ab12", ["train"])
    for step in range(1, 9):
        run.log(step=step, phase="train", loss=1 / step, clock={"seconds": 0.1 * step})
        if step % 4 == 0:
            rng = torch.Generator().manual_seed(step)
            tree = {
                "w": torch.randn(40, generator=rng),
                "m": torch.rand(9, generator=rng) > 0.5,
                "lr": 0.1,
                "n": (1, "a"),
            }
            run.save({"state": tree, "done": step}, step)
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with begun(tmp_path_factory.mktemp("flips")) as run:
        run.finish({"title": "flips", "value": 0.5, "measures": {"matrix": [[0.5, 0.25]]}})
    return run.folder


def flips(folder: Path, name: str, read: Callable[[Path], Any], count: int, seed: int) -> list[str]:
    """Flips of a file that are read without a word, or refused without its name."""
    path, found = folder / name, []
    whole, rng = path.read_bytes(), random.Random(f"{name} {seed}")
    for _ in range(count):
        place, bit = rng.randrange(len(whole)), rng.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        try:
            read(folder)
            found.append(f"{name}: bit {bit} of byte {place} is read")
        except UserError as error:
            if name not in str(error) or "\n" in str(error):
                found.append(f"{name}: bit {bit} of byte {place}: {error}")
    path.write_bytes(whole)
    read(folder)  # the file is right again, and so is its reader
    return found


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_of_a_run_is_refused(name: str, finished: Path) -> None:
    assert flips(finished, name, READERS[name], FEW, 0) == []


@pytest.mark.check
@pytest.mark.parametrize("name", READERS)
def test_thousands_of_flipped_bits_of_a_run_are_refused(name: str, finished: Path) -> None:
    assert flips(finished, name, READERS[name], MANY, 1) == []


def listed(root: Path) -> Path:
    """A data root whose one set is listed with its digest."""
    write(root, train=20)
    (root / "SHA256SUMS").write_text(f"a comment\n{file_digest(root / 'tiny.safetensors')}  tiny.safetensors\n")
    return root


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.check)])
def test_a_flipped_bit_of_a_listed_data_file_is_refused(count: int, tmp_path: Path) -> None:
    read = lambda root: load("tiny", root=root)  # noqa: E731
    assert flips(listed(tmp_path), "tiny.safetensors", read, count, 0) == []


def test_a_run_that_goes_on_reads_with_digests(tmp_path: Path) -> None:
    """The same flips as a user meets them: the run is opened again, loaded and rewound."""

    def again(folder: Path) -> None:
        with Run.open(tmp_path, "flips", CONFIG, "ab12", ["train"]) as run:
            found = run.load()
            assert found is not None
            run.rewind(found[1])

    with begun(tmp_path) as run:
        run.log(step=9)
    again(run.folder)
    for name in ("checkpoint.safetensors", "config.json", "environment.json", "digests.json", "metrics.jsonl"):
        found = flips(run.folder, name, again, 25, 0)
        assert found == []


def test_files_of_before_there_were_digests_are_read(tmp_path: Path) -> None:
    with begun(tmp_path) as run:
        tree = run.load()
    (run.folder / "digests.json").unlink()
    record = environment_of(run.folder)
    record.pop("config_sha256")
    (run.folder / "environment.json").write_text(json.dumps(record))
    content = from_file(run.folder / "checkpoint.safetensors")
    old = {"state/w": content["tree"]["state"]["w"]}
    skeleton = ["d", [["step", 8], ["lines", 8], ["tree", ["d", [["w", ["t", "state/w"]]]]]]]
    save_file(old, run.folder / "checkpoint.safetensors", metadata={"tree": json.dumps(skeleton)})
    with Run.open(tmp_path, "flips", CONFIG, "ab12", ["train"]) as again:
        found = again.load()
        assert found is not None
        assert tree is not None
        assert torch.equal(found[0]["w"], tree[0]["state"]["w"])
        again.rewind(8)
        assert len(again.metrics()) == 8
        again.save({}, 8)
        assert (run.folder / "digests.json").exists()  # from now on they are there


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"a": ' * 5000, b"[" * 100_000, b'{"x": "' + b"x" * 10**6]
)
def test_a_torn_record_is_one_line_that_names_it(name: str, content: bytes, tmp_path: Path) -> None:
    with begun(tmp_path) as run:
        pass
    (run.folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} must .*; restore it, or remove the folder") as caught:
        Run.open(tmp_path, "flips", CONFIG, "ab12", ["train"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_a_record_that_is_gone_is_told(name: str, tmp_path: Path) -> None:
    with begun(tmp_path) as run:
        pass
    (run.folder / name).unlink()
    with pytest.raises(UserError, match=rf"a run has {name}; .* lacks it"):
        Run.open(tmp_path, "flips", CONFIG, "ab12", ["train"])


def test_equal_states_have_equal_files_whatever_a_clock_said(tmp_path: Path) -> None:
    files = []
    for name in "ab":
        with Run.open(tmp_path / name, "flips", CONFIG, "ab12", []) as run:
            run.log(step=1, clock={"seconds": ord(name)})
            run.save({"w": torch.ones(3)}, 1)
        files.append((run.folder / "checkpoint.safetensors").read_bytes())
    assert files[0] == files[1]
    assert to_bytes({"a": 1}) != to_bytes({"a": 2})
