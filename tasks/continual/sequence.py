"""The loop: one task after the other, or batches that mix all tasks; resumable at every checkpoint."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tasks.continual.measures import matrix as metrics
from tasks.continual.streams import AUGMENT, MixedSampler, Stream, Task, evaluate_batches
from tasks.runs.progress import Progress
from tasks.runs.run import Run


class Regulariser(Protocol):
    """What holds earlier tasks while a later one is learned."""

    def backward(self, optimizer: torch.optim.Optimizer) -> float:
        """Add its gradient to that of the loss; returns the penalty."""
        ...


class Learner(Protocol):
    """What the loop trains: a modulated network or a baseline."""

    trained: bool
    role: str
    regulariser: Regulariser | None

    def __call__(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs) of inputs whose task, or tasks, are given."""
        ...

    def finish(self, number: int, task: Task, batches: list[Tensor]) -> None:
        """What a task needs after its last step."""
        ...

    def per_task(self) -> tuple[int, int, int]:
        """Parameters a task, bytes a task, shared parameters."""
        ...


@dataclass(frozen=True)
class Plan:
    """How to train: names and numbers of the config that the loop needs."""

    order: str
    steps: int
    batch: int
    schedule: str
    log_every: int
    save_every: int
    precision: str
    evaluation_batch: int
    unseen: bool
    augment: str | None
    channels_last: bool
    optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer]

    def sampler(self, stream: Stream, seed: int) -> MixedSampler:
        """Batches of this plan."""
        augment = None if self.augment is None else AUGMENT[self.augment]
        return MixedSampler(stream, self.batch, seed, augment=augment, channels_last=self.channels_last)


@dataclass
class State:
    """Where a run stands: the phase, the step in it, the accuracy matrix."""

    matrix: Tensor
    initial: Tensor | None = None
    phase: int = 0
    step: int = 0
    saved: int = field(default=0, repr=False)


def train(learner: Any, stream: Stream, plan: Plan, run: Run, *, seed: int, title: str) -> State:
    """Train on the whole stream and fill the accuracy matrix; goes on from the run's checkpoint."""
    phases = [list(range(len(stream)))] if plan.order == "joint" else [[t] for t in range(len(stream))]
    steps = (plan.steps * len(stream) if plan.order == "joint" else plan.steps) if learner.trained else 0
    state, optimizer = _resume(learner, stream, plan, run)
    progress = Progress(title, max(len(phases) * steps, 1), done=state.phase * steps + state.step)
    while state.phase < len(phases):
        tasks = phases[state.phase]
        if optimizer is None and learner.trained:
            optimizer = plan.optimizer(moved(learner))
        if optimizer is not None:
            _phase(learner, stream, plan, run, state, optimizer, tasks, steps, seed, progress)
        for t in tasks:
            learner.finish(t, stream[t], sample(stream[t]))
        _measure(learner, stream, plan, run, state, tasks, steps)
        state.phase, state.step, optimizer = state.phase + 1, 0, None
        _save(learner, None, run, state, steps)
    progress.close()
    return state


def moved(learner: Any) -> Iterable[Any]:
    """What an optimiser moves: the ``groups()`` of a learner that has several rates, or all that ask for a gradient."""
    return learner.groups() if hasattr(learner, "groups") else (p for p in learner.parameters() if p.requires_grad)


def _phase(
    learner: Any,
    stream: Stream,
    plan: Plan,
    run: Run,
    state: State,
    optimizer: torch.optim.Optimizer,
    tasks: list[int],
    steps: int,
    seed: int,
    progress: Progress,
) -> None:
    sampler = plan.sampler(stream, seed)
    began = time.process_time()
    learner.train()
    while state.step < steps:
        x, y, ids = sampler.draw(state.step, tasks)
        set_rate(optimizer, plan.schedule, state.step, steps)
        with autocast(plan.precision, x.device):
            logits = learner(x, tasks[0] if len(tasks) == 1 else ids)
            loss = sum_over_tasks(nn.functional.cross_entropy(logits, y, reduction="none"), ids)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if learner.regulariser is not None:
            learner.regulariser.backward(optimizer)
        optimizer.step()
        state.step += 1
        if state.step % plan.log_every == 0 or state.step == steps:
            done = state.phase * steps + state.step
            value, accuracy = float(loss.detach()) / len(ids.unique()), float((logits.argmax(1) == y).double().mean())
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss must stay finite; got {value} at step {done}; lower optimizer.lr")
            clock = {"seconds": time.process_time() - began}
            task = tasks[0] if len(tasks) == 1 else None
            run.log(step=done, task=task, phase="train", loss=value, accuracy=accuracy, clock=clock)
            progress.update(done, loss=value, accuracy=accuracy)
        if state.step % plan.save_every == 0 and state.step < steps:
            _save(learner, optimizer, run, state, steps)


def sum_over_tasks(losses: Tensor, ids: Tensor) -> Tensor:
    """The sum over the tasks in a batch of the mean loss of each: losses (B,), task ids int64 (B,), to a scalar.

    So a task whose parameters are its own takes the steps that it takes when trained alone.
    """
    return (losses / ids.bincount()[ids]).sum()


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    # A tenth from half of the steps on, a hundredth from three quarters on (He et al. 2016, section 4.2).
    "drops": lambda done: 0.1 ** ((done >= 0.5) + (done >= 0.75)),
}


def set_rate(optimizer: torch.optim.Optimizer, schedule: str, step: int, steps: int) -> None:
    """The rate of a step: the first rate times what its schedule says of the share of the steps that are done."""
    factor = SCHEDULES[schedule](step / steps)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor


@torch.no_grad()
def _measure(
    learner: Any, stream: Stream, plan: Plan, run: Run, state: State, tasks: Sequence[int], steps: int
) -> None:
    learner.eval()
    seen = range(len(stream)) if plan.unseen else range(max(tasks) + 1)
    row = max(tasks)
    for t in seen:
        state.matrix[row, t] = accuracy(learner, stream[t], t, plan.evaluation_batch, plan.precision)
    measured = {str(t): float(state.matrix[row, t]) for t in seen}
    run.log(step=(state.phase + 1) * steps, phase="test", after=row, accuracy=measured)


@torch.no_grad()
def accuracy(learner: Any, task: Task, number: int, batch: int, precision: str = "float32") -> float:
    """The share of a task's test images that are classified right, the task being known."""
    right = 0
    for images, labels in evaluate_batches(task.test, batch):
        x = task.view(images)
        with autocast(precision, x.device):
            right += int((learner(x, number).argmax(1) == labels).sum())
    return right / len(task.test)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Mixed precision with bfloat16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def sample(task: Task, batches: int = 10, size: int = 128) -> list[Tensor]:
    """The first images of a task in batches, for its statistics."""
    images = task.train.images[: batches * size]
    return [task.view(part) for part in images.split(size) if len(part) > 1]


def _resume(learner: Any, stream: Stream, plan: Plan, run: Run) -> tuple[State, torch.optim.Optimizer | None]:
    found = run.load()
    state = State(metrics.unmeasured(len(stream)))
    if found is None:
        run.rewind(0)
        if plan.unseen:
            learner.eval()
            state.initial = torch.tensor([accuracy(learner, t, i, plan.evaluation_batch) for i, t in enumerate(stream)])
        return state, None
    tree, step = found
    run.rewind(step)
    learner.load_state_dict(tree["model"])
    state.matrix, state.phase, state.step, state.initial = tree["matrix"], tree["phase"], tree["step"], tree["initial"]
    if tree["optimizer"] is None:
        return state, None
    optimizer = plan.optimizer(moved(learner))
    optimizer.load_state_dict(tree["optimizer"])
    return state, optimizer


def _save(learner: Any, optimizer: torch.optim.Optimizer | None, run: Run, state: State, steps: int) -> None:
    tree: Mapping[str, Any] = {
        "model": learner.state_dict(),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "matrix": state.matrix,
        "initial": state.initial,
        "phase": state.phase,
        "step": state.step,
    }
    run.save(tree, state.phase * steps + state.step)
