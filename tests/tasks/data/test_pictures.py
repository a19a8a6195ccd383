"""Pictures are read as they are looked at, or refused: no depth, no alpha and no frame is lost without a word."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.commands.cli import main
from tasks.data.load import load
from tasks.data.pixels import resized
from tasks.errors import UserError
from tests.images import write


def folder(root: Path, make: Callable[[int], Any], ending: str = "png", **options: Any) -> Path:
    """Two classes of five pictures."""
    for place, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            made = make(5 * place + number)
            picture = made if isinstance(made, Image.Image) else Image.fromarray(made)
            picture.save(root / name / f"{number}.{ending}", **options)
    return root


def noise(number: int, *shape: int, top: int = 256, kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(number).integers(0, top, shape or (8, 8)).astype(kind)


def read(root: Path, side: int | None = None) -> torch.Tensor:
    """All images of a folder, class by class."""
    found = load(f"folder:{root}", side=side)
    return torch.cat([found.train_images, found.test_images])


def refused(root: Path, *parts: str, side: int | None = None) -> None:
    with pytest.raises(UserError) as caught:
        read(root, side)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_sixteen_bits_become_eight_by_the_rule_of_png(tmp_path: Path) -> None:
    found = read(folder(tmp_path, lambda i: noise(i, top=65536, kind=np.uint16)))
    first = noise(0, top=65536, kind=np.uint16).astype(np.float64)
    assert torch.equal(found[0, 0], torch.from_numpy(np.floor(first * 255 / 65535 + 0.5)).to(torch.uint8))
    assert len(found.unique()) > 100


def test_a_sixteen_bit_picture_among_colours_is_grey_in_all_three(tmp_path: Path) -> None:
    root = folder(tmp_path, lambda i: noise(i, 8, 8, 3) if i else noise(i, top=65536, kind=np.uint16))
    found = read(root)
    assert found.shape[1] == 3
    assert torch.equal(found[0, 0], found[0, 2])


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_numbers_without_a_white_are_refused_by_file_and_mode(kind: type, mode: str, tmp_path: Path) -> None:
    root = folder(tmp_path, lambda i: noise(i, top=256, kind=kind), "tif")
    refused(root, "8 bits a channel", "0.tif", f"mode {mode}", "convert")


def alpha(number: int, opaque: bool) -> np.ndarray:
    pixels = noise(number, 8, 8, 4)
    pixels[..., 3] = 255 if opaque else np.where(pixels[..., 3] > 127, 255, 0)
    return pixels


@pytest.mark.parametrize("part", [slice(None), slice(2, None)], ids=["RGBA", "LA"])
def test_an_opaque_alpha_is_left_out_and_a_clear_one_is_refused(part: slice, tmp_path: Path) -> None:
    found = read(folder(tmp_path / "opaque", lambda i: alpha(i, True)[..., part]))
    colours = alpha(0, True)[..., part][..., :-1]
    assert torch.equal(found[0], torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1))))
    refused(folder(tmp_path / "clear", lambda i: alpha(i, False)[..., part]), "opaque", "0.png", "alpha 0", "flatten")


def test_a_palette_is_looked_up_and_its_clear_entry_is_refused(tmp_path: Path) -> None:
    def palette(number: int) -> Image.Image:
        picture = Image.fromarray(noise(number, top=4), "P")
        picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
        return picture

    found = read(folder(tmp_path / "plain", palette))
    table = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=torch.uint8)
    assert torch.equal(found[0], table[torch.from_numpy(noise(0, top=4)).long()].permute(2, 0, 1))
    refused(folder(tmp_path / "clear", palette, transparency=1), "opaque", "0.png")


def test_one_frame_alone_is_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(9 + i)) for i in range(3)]
    refused(folder(tmp_path, lambda i: noise(i), "gif", save_all=True, append_images=frames), "one frame", "has 4")


def test_pictures_of_several_sizes_are_brought_to_a_side_that_is_asked_for(tmp_path: Path) -> None:
    root = folder(tmp_path, lambda i: noise(i, 8 + i % 2, 8))
    refused(root, "one size", "8x8", "8x9", "data.side")
    found = read(root, side=6)
    assert found.shape == (10, 1, 6, 6)
    assert torch.equal(found[0:1], resized(torch.from_numpy(noise(0, 8, 8))[None, None], 6))


def bomb(path: Path, side: int) -> None:
    """A PNG of a few bytes that says that it has side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("side", [12_000, 200_000])
def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(side: int, tmp_path: Path) -> None:
    root = folder(tmp_path, lambda i: noise(i))
    bomb(root / "a" / "2.png", side)
    refused(root, "pixels at most", "2.png", "make it smaller")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("train", "test", "val"), ("beside train and test", "'val'")),
        (("train", "val"), ("one folder a class", "'train', 'val'", "train and test")),
        (("train",), ("one folder a class", "'train'")),
    ],
)
def test_a_part_that_no_run_would_see_is_refused(
    parts: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    for part in parts:
        folder(tmp_path / part, lambda i: noise(i))
    refused(tmp_path, *words)


def test_classes_may_be_named_like_parts(tmp_path: Path) -> None:
    folder(tmp_path, lambda i: noise(i))
    (tmp_path / "b").rename(tmp_path / "train")
    assert load(f"folder:{tmp_path}").classes == ("a", "train")


@pytest.mark.parametrize("name", ["x.npz", "x.pt", "some/x.csv", "/abs/x.tar.gz", "x.parquet"])
def test_a_file_of_another_program_gets_a_hint(name: str) -> None:
    with pytest.raises(
        UserError, match=r"NAME\.safetensors or a folder.*save_file\(.*'train.labels'.*'classes'"
    ) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_safetensors_file_is_named_without_its_ending(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"data=tiny data\.root={tmp_path}"):
        load(f"{write(tmp_path)}/tiny.safetensors")


@pytest.mark.parametrize(
    "name", ["Anna's set", "a,b c", "a=b", "{a: b}", "[a]", 'a"b', "'a'", "${a}", "a\\", "\u00e4#(1)"]
)
def test_a_path_may_have_any_letters(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / name / "pictures", lambda i: noise(i))
    write(tmp_path / name / "data")
    monkeypatch.chdir(tmp_path)
    given = ["train", "experiment=demo/nothing", "stream.tasks=1", "outputs=10", "measures.masks=null", "device=cpu"]
    where = ["--root", str(tmp_path / name / "runs")]
    assert main([*given, f"data=folder:{name}/pictures", *where]) == 0
    assert main([*given, f"data=folder:{tmp_path / name / 'pictures'}", *where]) == 0
    if "$" not in name:  # an interpolation, which an option that is written by hand may be
        assert main([*given, "data=tiny", f"data.root={name}/data", *where, f"title={name}"]) == 0
    assert "Traceback" not in capsys.readouterr().err
