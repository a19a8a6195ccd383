"""Stages: parts of a training one behind the other in one loop, each made of what those before it left."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from tasks.runs.bench import Bench
from tasks.runs.loop import Number, Stateful, loop


class Part(Stateful, Protocol):
    """What one stage trains; its state is all that its steps change."""

    def step(self, number: int) -> Mapping[str, Number | str]:
        """Take the step of this number, from 0; returns what is logged, as of `tasks.runs.loop.loop`."""
        ...


@dataclass(frozen=True)
class Stage:
    """A part of a training; the log has its name as that of a task.

    Args:
        name: of it, by which those behind it find it.
        steps: of training, 0 or more.
        make: its part, of the parts before it by name; called when its first step comes, and again where an ended run goes on.

    """

    name: str
    steps: int
    make: Callable[[Mapping[str, Any]], Part]


class Kept:
    """A module that the stages behind it train piece by piece, in a stage of no steps: its state is kept once, here.

    Args:
        module: made of what the parts before it left.

    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def step(self, number: int) -> Mapping[str, Number | str]:
        """There is none."""
        raise IndexError(number)

    def state_dict(self) -> Mapping[str, Any]:
        """The module's."""
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The module's."""
        self.module.load_state_dict(state)


class Stages:
    """Stages in their order. A run that was ended goes on in the middle of one, to the same bytes."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)
        self.parts: dict[str, Any] = {}

    def run(self, bench: Bench) -> dict[str, Any]:
        """Train to the end; returns all parts by name."""
        loop(self._step, {"stages": self}, bench, steps=sum(stage.steps for stage in self.stages))
        return self._made(len(self.stages))

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts that have begun."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make these parts again, each when those before it are as they were."""
        self.parts = {}
        for place, (name, held) in enumerate(state.items(), 1):
            self._made(place)[name].load_state_dict(held)

    def _step(self, number: int) -> Mapping[str, Number | str]:
        for place, stage in enumerate(self.stages, 1):
            if number < stage.steps:
                return {**self._made(place)[stage.name].step(number), "task": stage.name}
            number -= stage.steps
        raise IndexError(number)

    def _made(self, count: int) -> dict[str, Any]:
        """The first parts, so many."""
        for stage in self.stages[len(self.parts) : count]:
            self.parts[stage.name] = stage.make(self.parts)
        return self.parts
