"""The training loop, the only one: takes steps, refuses a loss that is not finite, logs, shows progress, saves, resumes."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tasks.config.build import own
from tasks.errors import UserError, nearest, told
from tasks.runs.bench import Bench
from tasks.runs.progress import Progress

Number = Tensor | float | int | None
Step = Callable[[int], Mapping[str, Number | str]]
"""The number of a step, from 0, to what it logs: ``loss``, and numbers or words beside it (tensors are read when they are logged)."""


class Stateful(Protocol):
    """What a checkpoint keeps: modules and optimisers have these two, and so may anything."""

    def state_dict(self) -> Any:
        """Plain values and tensors, in any nesting of dicts and lists."""
        ...

    def load_state_dict(self, state: Any) -> object:
        """Take up what `state_dict` gave."""
        ...


@dataclass
class Span:
    """Where the steps of a loop stand in a longer account.

    Args:
        first: the step of the account that the loop begins at.
        each: steps of the account per step of the loop.
        total: steps of the account.
        progress: that of the account, closed by its owner; None: nobody watches.

    """

    first: int
    each: int
    total: int
    progress: Progress | None


def loop(
    step: Step,
    state: Mapping[str, Stateful],
    bench: Bench,
    *,
    steps: int,
    rounds: int = 1,
    after: Callable[[int], None] | None = None,
    save: bool = True,
    span: Span | None = None,
) -> None:  # reason: each is a fact of the training at hand, and there is no other loop
    """Take ``rounds`` times ``steps`` steps, each called with its number, and call ``after(round)`` behind each round.

    A run that was ended goes on behind its last checkpoint, to the same bytes: ``state`` is all that steps change, and what
    a step draws it must draw from its number. Logged are every ``bench.log_every``-th step of a round and its last; saved
    every ``bench.save_every``-th and behind ``after``.

    Args:
        step: takes one step and returns what it logs; ``loss`` must be finite.
        state: by name, in the order in which it is loaded.
        bench: the run, its title, how often to log and to save.
        steps: of a round, 0 or more.
        rounds: such as the tasks of a sequence.
        after: what ends a round, such as an evaluation.
        save: False for a part of a run that somebody else keeps (the blocks of a bank).
        span: where these steps stand in a longer account.

    Raises:
        FloatingPointError: where a logged loss is nan or infinite.

    """
    run = bench.run
    round_, done = _resume(state, bench) if save else (0, 0)
    total = max(rounds * steps, 1)
    whole = span or Span(0, 1, total, Progress(bench.title, total, done=round_ * steps + done))
    began = time.process_time()
    for number in range(round_, rounds):
        while done < steps:
            line = step(number * steps + done)
            done += 1
            if done % bench.log_every == 0 or done == steps:
                count = whole.first + (number * steps + done) * whole.each
                values = numbers(line, count)
                run.log(step=count, phase="train", **values, clock={"seconds": time.process_time() - began})
                if whole.progress is not None:
                    whole.progress.update(count, **{key: v for key, v in values.items() if isinstance(v, float)})
            if save and done % bench.save_every == 0 and done < steps:
                _save(state, bench, number, done, steps)
        if after is not None:
            after(number)
        done = 0
        if save:
            _save(state, bench, number + 1, 0, steps)
    if span is None and whole.progress is not None:
        whole.progress.close()


def numbers(line: Mapping[str, Number | str], step: int) -> dict[str, Any]:
    """What a step logs as plain numbers. FloatingPointError for a loss that is not finite."""
    values: dict[str, Any] = {key: value.item() if isinstance(value, Tensor) else value for key, value in line.items()}
    loss = values["loss"]
    if loss is None or not math.isfinite(loss):
        raise FloatingPointError(f"the loss must stay finite; got {loss} at step {step}; lower the rate (lr)")
    return values


def _save(state: Mapping[str, Stateful], bench: Bench, round_: int, done: int, steps: int) -> None:
    tree = {name: part.state_dict() for name, part in state.items()}
    bench.run.save({"round": round_, "done": done, "state": tree}, round_ * steps + done)


def _resume(state: Mapping[str, Stateful], bench: Bench) -> tuple[int, int]:
    found = bench.run.load()
    if found is None:
        bench.run.rewind(0)
        return 0, 0
    tree, step = found
    bench.run.rewind(step)
    for name, part in state.items():
        part.load_state_dict(tree["state"][name])
    return tree["round"], tree["done"]


class Optimiser:
    """An optimiser that is made anew for each round; between rounds there is none, and nothing of it is kept.

    Args:
        make: groups of parameters to an optimiser.
        groups: what it moves now, called at the first step of a round.
        schedule: of the rate over a round (`factor_of`).

    """

    def __init__(
        self, make: Callable[[Any], torch.optim.Optimizer], groups: Callable[[], Any], schedule: str = "constant"
    ) -> None:
        self.make, self.groups, self.factor = make, groups, factor_of(schedule)
        self.now: torch.optim.Optimizer | None = None

    def begin(self) -> torch.optim.Optimizer:
        """The optimiser of this round."""
        if self.now is None:
            self.now = self.make(self.groups())
        return self.now

    def step(self) -> None:
        """One step of it; what it raises (a rate that no number can be multiplied by) is told in a line."""
        with told(f"{type(self.begin()).__name__} must take a step over what is trained", "lower the rate (lr)"):
            self.begin().step()

    def descend(self, loss: Callable[[], Tensor], done: float) -> Tensor:
        """One step down a loss, at the rate for the share ``done`` in [0, 1) of a round's steps; returns the loss."""
        self.set_rate(done)
        self.begin().zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        self.step()
        return value.detach()

    def end(self) -> None:
        """Forget it: the next round begins with another."""
        self.now = None

    def set_rate(self, done: float) -> None:
        """The rates for the share ``done`` in [0, 1) of a round's steps: the first rates times what the schedule says."""
        for group in self.begin().param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * self.factor(done)

    def state_dict(self) -> Any:
        """The optimiser's state; None between rounds, when there is no optimiser."""
        return None if self.now is None else self.now.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Build it over what moves now, then load."""
        self.now = None
        if state is not None:
            self.begin().load_state_dict(state)


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    # A tenth from half of the steps on, a hundredth from three quarters on (He et al. 2016, section 4.2).
    "drops": lambda done: 0.1 ** ((done >= 0.5) + (done >= 0.75)),
}


def factor_of(schedule: str) -> Callable[[float], float]:
    """A schedule by its name, or by the dotted path of a user's own: the share of steps done in [0, 1) to a factor."""
    if schedule in SCHEDULES:
        return SCHEDULES[schedule]
    if "." in schedule:
        return own(schedule, "schedule")
    known = ", ".join(SCHEDULES)
    raise UserError(
        f"schedule must be one of {known}, or package.module.function; got {schedule!r}; "
        f"nearest: {nearest(schedule, SCHEDULES)}"
    )
