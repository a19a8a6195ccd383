"""The stream and the target on which learners are tested."""

from typing import Any

import pytest

from tasks.config.load import load
from tests.tasks.continual.learners.stage import TINY
from tests.tasks.setup import stream_of, target_of


@pytest.fixture(scope="module")
def stage(data: str) -> tuple[Any, Any]:
    """A stream of three tasks, and a small frozen network."""
    config = load([*TINY, data])
    stream = stream_of(config)
    return stream, target_of(config)
