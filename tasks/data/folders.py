"""An image set from a folder of images, one folder per class."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tasks.data.image_set import TEST_EVERY, ImageSet, tensor_digest
from tasks.errors import UserError


def load_folder(path: Path) -> ImageSet:
    """PATH/CLASS/IMAGE, or PATH/train/CLASS/IMAGE and PATH/test/CLASS/IMAGE where both exist.

    Classes and images are taken in sorted order; without a test folder every fifth image of a class is a test image.
    Images are grey where all are grey, else RGB. Names that start with a dot are left out; any other must be an image.
    """
    if not path.is_dir():
        raise UserError(f"a folder of images must exist; got {path}; correct the path after 'folder:'")
    divided = (path / "train").is_dir() and (path / "test").is_dir()
    train, test = (_files(path / "train"), _files(path / "test")) if divided else _cut(_files(path))
    if list(train) != list(test):
        odd = sorted(set(train) ^ set(test))
        raise UserError(f"train and test of {path} need the same classes; {odd[0]!r} is in one only; add or remove it")
    grey = all(_is_grey(file) for part in (train, test) for files in part.values() for file in files)
    size: dict[str, Path] = {}
    tensors = (*_tensors(train, grey, size), *_tensors(test, grey, size))
    return ImageSet(path.resolve().name, *tensors, tuple(train), tensor_digest(*tensors))


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


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError) as error:  # Pillow raises both for a broken file
        raise UserError(f"every file in a class must be a whole image; {file} is not one; move it away") from error


def _is_grey(file: Path) -> bool:
    with _opened(file) as image:
        return image.mode in ("1", "L")


def _tensors(files: dict[str, list[Path]], grey: bool, size: dict[str, Path]) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels (N,); `size` collects each size with its first file, across both parts."""
    arrays, labels = [], []
    for label, content in enumerate(files.values()):
        for file in content:
            with _opened(file) as image:
                pixels = np.asarray(image.convert("L" if grey else "RGB"))
            _check_size(file, pixels, size)
            arrays.append(pixels[None] if grey else pixels.transpose(2, 0, 1))
            labels.append(label)
    return torch.from_numpy(np.stack(arrays)), torch.tensor(labels)


def _check_size(file: Path, pixels: np.ndarray, size: dict[str, Path]) -> None:
    text = f"{pixels.shape[1]}x{pixels.shape[0]}"
    size.setdefault(text, file)
    if len(size) > 1:
        first, other = size.items()
        both = f"{first[1].name} is {first[0]} and {other[1].name} is {other[0]}"
        raise UserError(f"all images of a folder must have one size; {both}; resize them to one size first")
