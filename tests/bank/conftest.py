"""A store of the small model."""

from pathlib import Path

import pytest

from neuromod import (
    save_pretrained,
)
from tests.bank.models import model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pretrained(model(), tmp_path / "store")
    return tmp_path / "store"
