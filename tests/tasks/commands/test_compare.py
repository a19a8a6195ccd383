"""``compare`` as its users call it: a network of their own with its weights, two folders of images, a budget of bytes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from neuromod import Target, from_pretrained
from tasks.commands.cli import main
from tasks.networks import ResNet
from tasks.networks.catalogue import catalogue
from tasks.runs.files import read_json

FEW = ["steps=2", "batch=8", "seeds=0,1", "save_every=1", "device=cpu"]


def folder(path: Path, classes: int, seed: int, side: int = 8, mode: str = "RGB") -> Path:
    rng = np.random.default_rng(seed)
    for label in range(classes):
        (path / f"class{label}").mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8) // 2 + 20 * label
            Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path / f"class{label}" / f"{i}.png")
    return path


def network() -> ResNet:
    torch.manual_seed(0)
    return ResNet([3, 8, 8], 5, depth=8, width=4)


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """A network, its weights and two folders."""
    save_file(network().state_dict(), tmp_path / "net.safetensors")
    data = ",".join(f"folder:{folder(tmp_path / name, n, n)}" for name, n in (("one", 3), ("two", 2)))
    options = ["target=tasks.networks:ResNet", "target.kwargs={depth: 8, width: 4}", "outputs=5"]
    return [*options, f"weights={tmp_path / 'net.safetensors'}", f"data={data}", *FEW]


def compared(*overrides: str, root: Path) -> int:
    return main(["compare", *overrides, "--root", str(root)])


def test_a_table_a_picture_a_report_and_a_winner(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "out"
    chosen = "methods=probe,cnaps,finetune"
    assert compared(*given, chosen, "budget_bytes=12000", root=root) == 0
    rows = read_json(root / "table.json")
    assert {row["method"] for row in rows} == {"probe", "cnaps"}
    assert [row["accuracy"] for row in rows] == sorted((row["accuracy"] for row in rows), reverse=True)
    assert all(row["bytes_per_task"] <= 12000 and len(row["values"]) == 2 for row in rows)
    text = capsys.readouterr().out
    assert "all weights: not run: a task keeps" in text
    assert "95 % interval" in text
    assert all(row["title"] in (root / "picture.svg").read_text() for row in rows)
    assert "methods compared" in (root / "report.html").read_text()
    target = Target(network(), torch.zeros(2, 3, 8, 8), norm="batch" if rows[0]["method"] != "film" else "frozen")
    winner = from_pretrained(root / "winner", target=target)
    assert winner.tasks() == (0, 1)
    # A second call finds everything done.
    assert compared(*given, chosen, "budget_bytes=12000", root=root) == 0
    assert read_json(root / "table.json") == rows


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["budget_bytes=10"], "a budget holds one method at least; the smallest, probe, keeps"),
        (["budget_bytes=ten"], "budget_bytes takes whole numbers"),
        (["methods=probes"], "a method is one of"),
        (["seeds=0,x"], "seeds takes whole numbers"),
        (["weights=nothing.pth"], "must be a file; it does not exist"),
        (["target.kwargs={depth: 14, width: 4}"], "must hold the weights of tasks.networks:ResNet"),
        (["data=folder:nowhere"], "a folder of images must exist"),
        (["depth_of_all=3"], "an option must exist; got 'depth_of_all'"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    more: list[str], said: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced = {item.partition("=")[0] for item in more}
    kept = [item for item in given if item.partition("=")[0] not in replaced]
    kept += [] if "methods" in replaced else ["methods=probe,norms"]
    assert compared(*kept, *more, root=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_folders_that_do_not_go_together(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = [item for item in given if not item.startswith("data=")]
    one, small, grey = (
        folder(tmp_path / "alone", 1, 0),
        folder(tmp_path / "small", 2, 0, side=6),
        folder(tmp_path / "grey", 2, 0, mode="L"),
    )
    first = tmp_path / "one"
    for data, said in (
        (f"folder:{one}", "a task tells classes apart, two or more"),
        (f"folder:{first},folder:{small}", "images of one size"),
        (f"folder:{first},folder:{grey}", "as many channels"),
    ):
        assert compared(*kept, "methods=probe", f"data={data}", root=tmp_path / "out") == 2
        assert said in capsys.readouterr().err
    assert compared("data=folder:x", root=tmp_path / "out") == 2
    assert "got no target" in capsys.readouterr().err


def test_a_weights_file_that_could_run_code_is_not_read(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(network(), tmp_path / "whole.pth")  # a pickled module, not a state dict
    kept = [item for item in given if not item.startswith("weights=")]
    assert compared(*kept, "methods=probe", f"weights={tmp_path / 'whole.pth'}", root=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "a file of weights holds a state dict, tensors alone" in error
    assert "\x1b" not in error


def test_networks_by_their_names() -> None:
    before = torch.random.get_rng_state()
    net = catalogue([3, 32, 32], 7, name="torchvision:resnet18", classes=10)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, said in (
        ("torchvision:resnet19", "torchvision has no network 'resnet19'; nearest: 'resnet1"),
        ("resnet18", "a network is named torchvision:NAME or timm:NAME"),
    ):
        with pytest.raises(ValueError, match=said):
            catalogue([3, 32, 32], 7, name=name)
