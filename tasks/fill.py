"""The loop that fills a bank: tasks that share nothing, some at a time, each sealed into the run's store when it ends."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from neuromod import Modulated
from neuromod.bank import Store
from neuromod.together import Together
from tasks.build import add
from tasks.played import Played
from tasks.progress import Progress
from tasks.runs import Run
from tasks.streams import MixedSampler, Stream
from tasks.train import Plan, accuracy, autocast, sample, set_rate

FOLDER = "bank"


@dataclass(frozen=True)
class Filled:
    """A bank that holds every task of a stream: accuracies (T,) when each was sealed and again at the end, bytes a task on disk."""

    learned: list[float]
    final: list[float]
    stored: float

    @property
    def forgetting(self) -> float:
        """Mean of the accuracy when a task was sealed less that at the end."""
        return sum(a - b for a, b in zip(self.learned, self.final, strict=True)) / len(self.final)


def fill(
    played: Played,
    stream: Stream,
    plan: Plan,
    run: Run,
    *,
    together: int,
    seed: int,
    title: str,
    begin: Callable[[Modulated, int], None] | None = None,
) -> Filled:
    """Learn and seal every task that the run's store does not hold yet; what is sealed is never learned again.

    Blocks of ``together`` tasks train side by side, each on the batches that it has when it is trained alone. A run that
    was ended goes on with the first task that is not in the store. ``begin(model, task)`` may change where a task that was
    just added starts.
    """
    model, store = played.model, _store(played.model, run)
    learned = _resume(played, stream, plan, run, store)
    missing = [task for task in range(len(stream)) if task not in learned]
    progress = Progress(title, max(len(stream) * plan.steps, 1), done=len(learned) * plan.steps)
    for block in (missing[i : i + together] for i in range(0, len(missing), together)):
        for task in block:
            add(model, task, stream[task].classes)
            if begin is not None:
                begin(model, task)
        _block(model, stream, plan, run, block, seed, len(learned) * plan.steps, progress)
        for task in block:
            played.finish(task, stream[task], sample(stream[task]))
            model.seal(task)
            store.append(model, task)
            learned[task] = _sealed(played, stream, plan, run, task, len(learned))
        run.save({"learned": learned}, len(learned) * plan.steps)
    progress.close()
    model.eval()
    order = range(len(stream))
    final = [accuracy(played, stream[t], t, plan.evaluation_batch, plan.precision) for t in order]
    return Filled([learned[t] for t in order], final, store.bytes_on_disk() / len(order))


def _store(model: Modulated, run: Run) -> Store:
    folder = run.folder / FOLDER
    return Store.open(folder) if folder.exists() else Store.create(folder, model)


def _resume(played: Played, stream: Stream, plan: Plan, run: Run, store: Store) -> dict[int, float]:
    found = run.load()
    tree, step = ({"learned": {}}, 0) if found is None else found
    run.rewind(step)
    learned: dict[int, float] = dict(tree["learned"])
    present = sorted(store.tasks())
    store.load(played.model, present)
    for task in present:
        # Sealed between the last checkpoint and the end of the process.
        if task not in learned:
            learned[task] = _sealed(played, stream, plan, run, task, len(learned))
    return learned


def _sealed(played: Played, stream: Stream, plan: Plan, run: Run, task: int, before: int) -> float:
    played.eval()
    found = accuracy(played, stream[task], task, plan.evaluation_batch, plan.precision)
    run.log(step=(before + 1) * plan.steps, task=task, phase="sealed", accuracy=found)
    return found


def _block(
    model: Modulated,
    stream: Stream,
    plan: Plan,
    run: Run,
    tasks: Sequence[int],
    seed: int,
    before: int,
    progress: Progress,
) -> None:
    model.train()
    side = Together(model, tasks)
    optimizer, sampler = plan.optimizer(side.parameters()), MixedSampler(stream, plan.batch, seed)
    began = time.process_time()
    for step in range(plan.steps):
        x, y = sampler.draw_apart(step, tasks)
        set_rate(optimizer, plan.schedule, step, plan.steps)
        with autocast(plan.precision, x.device):
            logits = side(x)
            losses = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
        optimizer.zero_grad(set_to_none=True)
        losses.mean(1).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % plan.log_every == 0 or step + 1 == plan.steps:
            numbers: dict[str, Any] = {"loss": float(losses.detach().mean())}
            numbers["accuracy"] = float((logits.argmax(2) == y).double().mean())
            if not math.isfinite(numbers["loss"]):
                raise FloatingPointError(
                    f"the loss must stay finite; got {numbers['loss']} at step {step + 1} of tasks {tasks[0]} to {tasks[-1]}; "
                    "lower optimizer.lr"
                )
            done, clock = before + (step + 1) * len(tasks), {"seconds": time.process_time() - began}
            task = tasks[0] if len(tasks) == 1 else None
            run.log(step=done, task=task, phase="train", **numbers, clock=clock)
            progress.update(done, **numbers)
    side.release()
