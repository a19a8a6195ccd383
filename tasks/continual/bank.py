"""The loop that fills a bank: tasks that share nothing, some at a time, each sealed into the run's store when it ends."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neuromod import Modulated, Modulator
from neuromod.bank import Store
from neuromod.training.together import Together
from tasks.config.build import add
from tasks.continual.learners.modulated import Played
from tasks.continual.sequence import Plan, accuracy, autocast, sample, set_rate
from tasks.continual.streams import Stream
from tasks.continual.transfer import Transfer
from tasks.errors import UserError
from tasks.runs.progress import Progress
from tasks.runs.run import Run

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


@dataclass(frozen=True)
class Learnt:
    """One task that was learned: its sealed row by modulator, its accuracy, and what it logged."""

    task: int
    row: dict[str, dict[str, Tensor]]
    accuracy: float
    lines: list[dict[str, Any]]


Elsewhere = Callable[[Sequence[Sequence[int]], int], list[list[Learnt]]]


def fill(
    played: Played,
    stream: Stream,
    plan: Plan,
    run: Run,
    *,
    together: int,
    seed: int,
    title: str,
    transfer: str = "none",
    jobs: int = 1,
    elsewhere: Elsewhere | None = None,
) -> Filled:
    """Learn and seal every task that the run's store does not hold yet; what is sealed is never learned again.

    Blocks of ``together`` tasks train side by side, each on the batches that it has when it is trained alone. A run that
    was ended goes on with the first task that is not in the store. ``transfer`` says where tasks start that come after
    others (`Transfer`). With ``jobs`` > 1 so many processes learn blocks by ``elsewhere(blocks, first step)``; this one
    alone writes, in the order of the tasks, so that nothing in the run tells how many there were.
    """
    model, store = played.model, _store(played.model, run)
    begun = Transfer(transfer)
    learned = _resume(played, stream, plan, run, store, begun)
    missing = [task for task in range(len(stream)) if task not in learned]
    progress = Progress(title, max(len(stream) * plan.steps, 1), done=len(learned) * plan.steps)
    blocks = [missing[i : i + together] for i in range(0, len(missing), together)]
    if jobs == 1 or elsewhere is None:
        firsts = [(len(learned) + i * together) * plan.steps for i in range(len(blocks))]
        pairs = zip(blocks, firsts, strict=True)
        found = (learn(played, stream, plan, block, seed, first, begun, progress) for block, first in pairs)
    else:
        if begun.form != "none":
            rule = "a task that starts at what others learned waits for them"
            raise UserError(f"{rule}; got transfer={transfer} and {jobs} processes; pass --jobs 1")
        found = spread(elsewhere, blocks, len(learned), plan.steps, jobs)
    for block in found:
        for done in block:
            for line in done.lines:
                run.log(**line)
            if done.task not in model.tasks():
                _seal(model, done.task, done.row)
            learned[done.task] = done.accuracy
        # The rows too, so that a process that ends before they are stored loses nothing of what it logged.
        rows = {done.task: done.row for done in block}
        run.save({"learned": learned, "sums": begun.sums, "rows": rows}, len(learned) * plan.steps)
        for done in block:
            store.append(model, done.task)
        progress.update(len(learned) * plan.steps, accuracy=block[-1].accuracy)
    progress.close()
    model.eval()
    order = range(len(stream))
    final = [accuracy(played, stream[t], t, plan.evaluation_batch, plan.precision) for t in order]
    return Filled([learned[t] for t in order], final, store.bytes_on_disk() / len(order))


def spread(
    elsewhere: Elsewhere, blocks: Sequence[Sequence[int]], before: int, steps: int, jobs: int
) -> Iterator[list[Learnt]]:
    """Blocks that ``jobs`` processes learn, in their order as they come; each process takes a few at a time."""
    from joblib import Parallel, delayed

    size = max(1, -(-len(blocks) // (4 * jobs)))
    parts = [blocks[i : i + size] for i in range(0, len(blocks), size)]
    firsts = [before + sum(map(len, blocks[: i * size])) for i in range(len(parts))]
    calls = (delayed(elsewhere)(part, first * steps) for part, first in zip(parts, firsts, strict=True))
    for part in Parallel(n_jobs=jobs, return_as="generator")(calls):
        yield from part


def learn(
    played: Played,
    stream: Stream,
    plan: Plan,
    block: Sequence[int],
    seed: int,
    first: int,
    begun: Transfer,
    progress: Progress | None = None,
) -> list[Learnt]:
    """Learn and seal a block of tasks; ``first`` is the step of the run that it begins at."""
    model = played.model
    for task in block:
        add(model, task, stream[task].classes)
        begun.begin(model, task)
    lines = [_block(model, stream, plan, block, seed, first, progress)]
    found = []
    for place, task in enumerate(block):
        played.finish(task, stream[task], sample(stream[task]))
        begun.end(model, task)
        model.seal(task)
        played.eval()
        value = accuracy(played, stream[task], task, plan.evaluation_batch, plan.precision)
        sealed = {"step": first + (place + 1) * plan.steps, "task": task, "phase": "sealed", "accuracy": value}
        row = {name: m.sealed.row(task) for name, m in _readers(model).items()}
        found.append(Learnt(task, row, value, [*(lines.pop() if lines else []), sealed]))
    return found


def _seal(model: Modulated, task: int, row: Mapping[str, Mapping[str, Tensor]]) -> None:
    for name, modulator in _readers(model).items():
        modulator.sealed.seal(task, {key: value.to(modulator.like.device) for key, value in row[name].items()})


def _store(model: Modulated, run: Run) -> Store:
    folder = run.folder / FOLDER
    return Store.open(folder) if Store.exists(folder) else Store.create(folder, model)


def _resume(played: Played, stream: Stream, plan: Plan, run: Run, store: Store, begun: Transfer) -> dict[int, float]:
    found = run.load()
    tree, step = ({"learned": {}, "sums": {}, "rows": {}}, 0) if found is None else found
    run.rewind(step)
    store.load(played.model, sorted(store.tasks()))
    for task, rows in tree["rows"].items():
        if task not in store:
            _seal(played.model, task, rows)
            store.append(played.model, task)
    begun.sums = tree["sums"]
    return dict(tree["learned"])


def _readers(model: Modulated) -> dict[str, Modulator]:
    return {name: m for name, m in model.named_modulators().items() if m.reads == "task"}


def _block(
    model: Modulated,
    stream: Stream,
    plan: Plan,
    tasks: Sequence[int],
    seed: int,
    before: int,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    model.train()
    lines: list[dict[str, Any]] = []
    side = Together(model, tasks)
    optimizer, sampler = plan.optimizer(side.parameters()), plan.sampler(stream, seed)
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
            lines.append({"step": done, "task": task, "phase": "train", **numbers, "clock": clock})
            if progress is not None:
                progress.update(done, **numbers)
    side.release()
    return lines
