"""An image set from a folder of images, one folder per class."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.data.image_set import TEST_EVERY, ImageSet, tensor_digest
from tasks.data.pictures import is_grey, pixels_of
from tasks.data.pixels import resized
from tasks.errors import UserError


def load_folder(path: Path, side: int | None = None) -> ImageSet:
    """PATH/CLASS/IMAGE, or PATH/train/CLASS/IMAGE and PATH/test/CLASS/IMAGE where both exist.

    Classes and images are taken in sorted order; without a test folder every fifth image of a class is a test image.
    Images are grey where all are grey, else RGB. Names that start with a dot are left out; any other must be an image.

    Args:
        path: of the folder.
        side: pixels to which every picture is resized where they have several sizes; None: several sizes are refused.

    """
    if not path.is_dir():
        raise UserError(f"a folder of images must exist; got {path}; correct the path after 'folder:'")
    divided = _is_divided(path)
    train, test = (_files(path / "train"), _files(path / "test")) if divided else _cut(_files(path))
    if list(train) != list(test):
        odd = sorted(set(train) ^ set(test))
        raise UserError(f"train and test of {path} need the same classes; {odd[0]!r} is in one only; add or remove it")
    # Of every file, for each is refused or read: a colour picture ends no search.
    looks = [is_grey(file) for part in (train, test) for files in part.values() for file in files]
    grey = all(looks)
    first, second = (_read(part, grey) for part in (train, test))
    if len(sizes := _sizes(first[0] | second[0])) > 1:
        if side is None:
            one, other = list(sizes.items())[:2]
            both = f"{one[1].name} is {one[0]} and {other[1].name} is {other[0]}"
            raise UserError(
                f"all images of a folder must have one size; {both}; resize them, or pass data.side=32, say"
            )
        first, second = (
            ({file: _at(array, side) for file, array in read.items()}, labels) for read, labels in (first, second)
        )
    tensors = (*_tensors(*first), *_tensors(*second))
    return ImageSet(path.resolve().name, *tensors, tuple(train), tensor_digest(*tensors))


def _is_divided(path: Path) -> bool:
    """Whether a folder holds train and test, each with folders of classes. UserError where it holds another part as well,
    or one part alone: what is there is read or refused.
    """
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if not {"train", "test"} <= (names := {entry.name for entry in folders}):
        if deep := sorted(entry.name for entry in folders if _holds_folders(entry)):
            rule = f"{path} must hold one folder a class, or train and test with one folder a class each"
            raise UserError(f"{rule}; got folders inside {_listed(deep)}; name its parts train and test")
        return False
    if others := sorted(names - {"train", "test"}):
        rule = f"beside train and test {path} must hold nothing"
        raise UserError(f"{rule}; got {_listed(others)}, which no run would see; move it away, or into train")
    return True


def _holds_folders(folder: Path) -> bool:
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in list(names)[:3])


def _files(folder: Path) -> dict[str, list[Path]]:
    visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    stray = [entry for entry in visible if not entry.is_dir()]
    if stray:
        raise UserError(
            f"{folder} must hold one folder a class and nothing else; got the file {stray[0].name}; move it away"
        )
    files = {entry.name: sorted(file for file in entry.iterdir() if not file.name.startswith(".")) for entry in visible}
    empty = [name for name, content in files.items() if not content]
    if empty or not files:
        which = f"the class {empty[0]!r} is empty" if empty else "there is no class"
        raise UserError(f"{folder} must hold folders with images; {which}; add images or remove it")
    return files


def _cut(files: dict[str, list[Path]]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    small = [name for name, content in files.items() if len(content) < TEST_EVERY]
    if small:
        rule = f"a class needs {TEST_EVERY} images to be divided into train and test"
        raise UserError(f"{rule}; {small[0]!r} has {len(files[small[0]])}; add images, or make folders train and test")
    last = TEST_EVERY - 1
    train = {name: [f for i, f in enumerate(content) if i % TEST_EVERY != last] for name, content in files.items()}
    return train, {name: content[last::TEST_EVERY] for name, content in files.items()}


def _read(files: dict[str, list[Path]], grey: bool) -> tuple[dict[Path, np.ndarray], list[int]]:
    """The pictures uint8 (C, H, W) of a part by their files, and their labels."""
    arrays: dict[Path, np.ndarray] = {}
    labels = []
    for label, content in enumerate(files.values()):
        for file in content:
            pixels = pixels_of(file, grey)
            arrays[file] = pixels[None] if grey else pixels.transpose(2, 0, 1)
            labels.append(label)
    return arrays, labels


def _sizes(arrays: dict[Path, np.ndarray]) -> dict[str, Path]:
    """Each size, width by height, with its first file."""
    found: dict[str, Path] = {}
    for file, array in arrays.items():
        found.setdefault(f"{array.shape[2]}x{array.shape[1]}", file)
    return found


def _at(array: np.ndarray, side: int) -> np.ndarray:
    """A picture (C, H, W) at another side."""
    return resized(torch.from_numpy(array.copy())[None], side)[0].numpy()


def _tensors(arrays: dict[Path, np.ndarray], labels: list[int]) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels (N,)."""
    return torch.from_numpy(np.stack(list(arrays.values()))), torch.tensor(labels)
