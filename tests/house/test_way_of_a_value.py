"""How far a value of a config travels: the calls that carry `optimizer.lr` from `execute` to the optimiser, and their files."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tasks.config.load import load
from tasks.experiment import execute
from tests.images import write

ROOT = Path(__file__).parents[2]
RATE = 0.0123456
CALLS, FILES = 40, 12


def carries(value: Any, depth: int = 4) -> bool:
    """Whether a value is the rate, or plain data that holds it; what an object keeps is not handed over with each call."""
    if isinstance(value, float):
        return value == RATE
    if depth and isinstance(value, Mapping):
        return any(carries(part, depth - 1) for part in value.values())
    if depth and isinstance(value, list | tuple):
        return any(carries(part, depth - 1) for part in value)
    return False


class Way:
    """The calls of the project that were handed the rate, before the optimiser was."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arrived = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or self.arrived:
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        # Options that a function takes by any name stand behind its own arguments.
        names += code.co_varnames[len(names) : len(names) + bool(code.co_flags & 0x08)]
        handed = [frame.f_locals.get(name) for name in names]
        if code.co_filename.endswith("torch/optim/adam.py") and code.co_name == "__init__":
            self.arrived = any(carries(value) for value in handed)
        elif code.co_filename.startswith(str(ROOT / "tasks")) and any(carries(value) for value in handed):
            self.calls.append(f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}")


def test_the_rate_reaches_the_optimiser_in_few_calls(tmp_path: Path) -> None:
    given = ["experiment=demo/supermask", "data=tiny", f"data.root='{write(tmp_path / 'data')}'", "stream.tasks=1"]
    config = load([*given, "steps=1", "batch=8", f"optimizer.lr={RATE}", "device=cpu"])
    way = Way()
    sys.setprofile(way)
    try:
        execute(config, root=tmp_path, command=[])
    finally:
        sys.setprofile(None)
    files = {call.partition(":")[0] for call in way.calls}
    print("\n".join(way.calls), f"{len(way.calls)} calls over {len(files)} files", sep="\n")
    assert way.arrived
    assert 1 < len(way.calls) <= CALLS
    assert len(files) <= FILES
