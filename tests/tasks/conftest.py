"""Fixtures of all tests of experiments: small image sets, in memory and on disk."""

import pytest
import torch

from tasks.data.image_set import ImageSet
from tasks.runs import environment
from tests.images import write


def _images(count, channels, height, width, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=draw)


@pytest.fixture
def image_set():
    """A maker of small image sets whose labels go round the classes."""

    def make(train=40, test=20, classes=4, channels=1, height=6, width=6):
        labels = torch.arange(max(train, test)) % classes
        shape = (channels, height, width)
        parts = (_images(train, *shape, seed=0), labels[:train], _images(test, *shape, seed=1), labels[:test])
        return ImageSet("tiny", *parts, tuple("abcdefgh"[:classes]), "5e")

    return make


@pytest.fixture
def omniglot(tmp_path):
    """A data root with a small image set under that name."""
    return write(tmp_path / "data", "omniglot", classes=10, side=28, train=80)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """An override that names a data root with a tiny image set."""
    return f"data.root='{write(tmp_path_factory.mktemp('data'))}'"


@pytest.fixture
def tiny(image_set):
    return image_set()


@pytest.fixture
def known_commit(monkeypatch):
    """No git: the commit is c0ffee..., clean."""
    monkeypatch.setattr(environment, "code", lambda: environment.Code("c0ffee" * 6, False))
