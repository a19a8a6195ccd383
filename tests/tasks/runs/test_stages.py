"""Stages follow one another in one loop, and an ended run goes on in the middle of one."""

from pathlib import Path
from typing import Any

import pytest

from tasks.runs.bench import Bench
from tasks.runs.stages import Stage, Stages


class Counting:
    """Adds what the part before it has found, step by step."""

    def __init__(self, by: int) -> None:
        self.by, self.found = by, 0

    def step(self, number: int) -> dict[str, Any]:
        self.found += self.by + number
        return {"loss": float(self.found)}

    def state_dict(self) -> dict[str, Any]:
        return {"found": self.found}

    def load_state_dict(self, state: Any) -> None:
        self.found = state["found"]


class Kept:
    """A run in memory, which may end behind a checkpoint."""

    def __init__(self, tree: Any = None, step: int = 0) -> None:
        self.held = None if tree is None else (tree, step)
        self.lines: list[dict[str, Any]] = []
        self.saves: list[tuple[Any, int]] = []

    def load(self) -> Any:
        return self.held

    def rewind(self, step: int) -> None:
        pass

    def log(self, **fields: Any) -> None:
        self.lines.append(fields)

    def save(self, tree: Any, step: int) -> None:
        self.saves.append((tree, step))


def stages() -> Stages:
    return Stages(
        [
            Stage("first", 3, lambda parts: Counting(1)),
            Stage("none", 0, lambda parts: Counting(parts["first"].found)),
            Stage("second", 2, lambda parts: Counting(parts["none"].by)),
        ]
    )


def run(kept: Kept) -> dict[str, Any]:
    bench = Bench({}, log_every=1, save_every=1)
    bench.run = kept
    return stages().run(bench)


def test_each_is_made_of_what_those_before_it_left() -> None:
    kept = Kept()
    parts = run(kept)
    assert {name: part.found for name, part in parts.items()} == {"first": 1 + 2 + 3, "none": 0, "second": 6 + 7}
    assert [line["task"] for line in kept.lines] == ["first"] * 3 + ["second"] * 2


def test_an_ended_run_goes_on_in_any_of_them() -> None:
    kept = Kept()
    whole = run(kept)
    assert len(kept.saves) == 5
    for tree, step in kept.saves:
        assert {n: p.state_dict() for n, p in run(Kept(tree, step)).items()} == {
            n: p.state_dict() for n, p in whole.items()
        }


def test_stages_without_a_step_are_made() -> None:
    made = Stages([Stage("only", 0, lambda parts: Counting(1))])
    bench = Bench({})
    bench.run = Kept()
    assert made.run(bench)["only"].found == 0


def test_a_step_behind_the_last_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        stages()._step(5)
