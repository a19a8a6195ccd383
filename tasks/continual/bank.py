"""A bank: tasks that share nothing, some at a time, each sealed into the run's store when it is learned."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import neuromod
from neuromod import Together
from neuromod.bank import Store
from tasks.config.build import experiment
from tasks.config.fields import Count, Range, one_of
from tasks.continual.family import Continual, how, result
from tasks.continual.learners.base import accuracy, autocast
from tasks.continual.learners.modulated import Modulated
from tasks.continual.measures import bits, matrix
from tasks.continual.measures.bits import bits_per_weight
from tasks.continual.transfer import FORMS, Transfer, steps_to
from tasks.errors import UserError
from tasks.experiment import Bench, Result
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.runs.bench import Lines
from tasks.runs.loop import Number, Optimiser, Span, factor_of, loop
from tasks.runs.progress import Progress

FOLDER = "bank"
FILLS = "run=bank fills a bank of modulations"


@dataclass(frozen=True)
class Learnt:
    """One task that was learned, ready to be sealed and stored.

    Args:
        task: its id.
        row: its sealed tensors, by modulator and by key.
        accuracy: on its test images, in [0, 1], before it was sealed into the bank.
        lines: what it logged.

    """

    task: int
    row: dict[str, dict[str, Tensor]]
    accuracy: float
    lines: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Bank(Continual):
    """Every task learned alone and sealed; what is sealed is never learned again.

    A run that was ended goes on with the first task that is not in the store.

    Args:
        steps: of training, per task; 1 or more, for what is sealed is never learned again.
        schedule: of the rate over the steps of a task, as of `tasks.continual.Sequence`.
        together: tasks that train side by side, each on the batches that it has when it is trained alone.
        transfer: ``none``, ``scores`` or ``masks``: a task starts at the mean of what those before it learned (`Transfer`).

    """

    steps: Annotated[int, Range(least=1, most=2**62)] = 1000
    schedule: str = "constant"
    together: Count = 1
    transfer: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        factor_of(self.schedule)
        one_of("transfer", self.transfer, FORMS)
        if self.evaluation.unseen:
            raise UserError("run=bank tests a task once it is sealed; got evaluation.unseen=true; pass run=sequence")
        self.without_regulariser("run=bank learns each alone")

    def execute(self, bench: Bench) -> Result:
        """Learn and seal every task that the run's store does not hold, and test all of them at the end."""
        learner = self.learn_by_task(bench, FILLS)
        stream, model = self.tasks(bench), learner.model
        store, begun = _store(model, bench.run.folder / FOLDER), Transfer(self.transfer)
        learned = _resume(model, bench, store, begun)
        total = max(len(stream) * self.steps, 1)
        progress = Progress(bench.title, total, done=len(learned) * self.steps)
        for block in self._blocks(learner, bench, learned, begun, progress):
            for done in block:
                for line in done.lines:
                    bench.run.log(**line)
                if done.task not in model.tasks():
                    _seal(model, done.task, done.row)
                learned[done.task] = done.accuracy
            # The rows too, so that a process that ends before they are stored loses nothing of what it logged.
            rows = {done.task: done.row for done in block}
            bench.run.save({"learned": learned, "sums": begun.sums, "rows": rows}, len(learned) * self.steps)
            for done in block:
                store.append(model, done.task)
            progress.update(len(learned) * self.steps, accuracy=block[-1].accuracy)
        progress.close()
        return self._result(learner, bench, [learned[t] for t in range(len(stream))], store.bytes_on_disk())

    def _blocks(
        self, learner: Modulated, bench: Bench, learned: Mapping[int, float], begun: Transfer, progress: Progress
    ) -> Iterator[list[Learnt]]:
        missing = [task for task in range(len(self.tasks(bench))) if task not in learned]
        blocks = [missing[i : i + self.together] for i in range(0, len(missing), self.together)]
        firsts = [(len(learned) + i * self.together) * self.steps for i in range(len(blocks))]
        if bench.jobs == 1:
            for block, first in zip(blocks, firsts, strict=True):
                yield self.learn_block(learner, bench, block, first, begun, progress)
            return
        if begun.form != "none":
            rule = "a task that starts at what others learned waits for them"
            raise UserError(f"{rule}; got transfer={begun.form} and {bench.jobs} processes; pass --jobs 1")
        learn = partial(elsewhere, _fields(bench), self.fingerprint(bench))
        yield from spread(learn, blocks, len(learned), self.steps, bench.jobs)

    def learn_block(
        self,
        learner: Modulated,
        bench: Bench,
        block: Sequence[int],
        first: int,
        begun: Transfer,
        progress: Progress | None = None,
    ) -> list[Learnt]:  # a block, where it stands in the run, and what others learned
        """Learn and seal a block of tasks; they train side by side, each as it would alone.

        Args:
            learner: learns of the tasks here.
            bench: the place of the run.
            block: ids of the tasks.
            first: the step of the run that the block begins at.
            begun: what earlier tasks learned, and how a task starts from it.
            progress: updated at every logged step; None in another process, where nobody watches.

        """
        stream, model = self.tasks(bench), learner.model
        for task in block:
            learner.add(task, stream[task].classes)
            begun.begin(model, task)
        lines = self._train(model, bench, block, first, progress)
        found = []
        for place, task in enumerate(block):
            learner.after_task(task, stream[task])
            begun.end(model, task)
            model.seal(task)
            learner.eval()
            value = accuracy(learner, stream[task], task, self.evaluation.batch, self.precision)
            sealed = {"step": first + (place + 1) * self.steps, "task": task, "phase": "sealed", "accuracy": value}
            row = {name: m.sealed.row(task) for name, m in model.readers("task").items()}
            found.append(Learnt(task, row, value, [*(lines if place == 0 else []), sealed]))
        return found

    def _train(
        self, model: neuromod.Modulated, bench: Bench, tasks: Sequence[int], first: int, progress: Progress | None
    ) -> list[dict[str, Any]]:
        """The tasks of a block side by side; returns what they logged, for the run is written by one process alone."""
        model.train()
        side, sampler = Together(model, tasks), self.sampler(bench)
        optimiser: Optimiser = self.optimiser(side.parameters, self.schedule)

        def step(number: int) -> dict[str, Number]:
            x, y = sampler.draw_apart(number, tasks)
            optimiser.set_rate(number / self.steps)
            with autocast(self.precision, x.device):
                logits = side(x)
                losses = cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
            optimiser.begin().zero_grad(set_to_none=True)
            losses.mean(1).sum().backward()
            optimiser.step()
            right = (logits.argmax(2) == y).double().mean()
            return {"task": tasks[0] if len(tasks) == 1 else None, "loss": losses.detach().mean(), "accuracy": right}

        aside = replace(bench)
        aside.run = lines = Lines()
        span = Span(first, len(tasks), len(self.tasks(bench)) * self.steps, progress)
        loop(step, {}, aside, steps=self.steps, save=False, span=span)
        side.release()
        return lines.lines

    def _result(self, learner: Modulated, bench: Bench, learned: list[float], stored: int) -> Result:
        learner.eval()
        stream, options = self.tasks(bench), (self.evaluation.batch, self.precision)
        final = [accuracy(learner, task, number, *options) for number, task in enumerate(stream)]
        each = stored / len(stream)
        bank = {
            "learned": learned,
            "stored_bytes_per_task": each,
            "bits_per_weight": bits_per_weight(learner.model, each),
        }
        if self.together == 1:
            bank["steps_to_90"] = steps_to(bench.run.metrics(), 0.9, plan_steps=self.steps)
        lost = fmean(a - b for a, b in zip(learned, final, strict=True))
        first = {"matrix": {"matrix": [final], "forgetting": lost}, "bank": bank}
        trained = how(learner, "in sequence")
        return result(learner, stream, fmean(final), trained, self.measured(learner, bench, first))

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Accuracy task by task, and against bits."""
        return [*matrix.draw(runs, names), *bits.draw(runs, names)]


def spread(
    learn: Callable[[Sequence[Sequence[int]], int], list[list[Learnt]]],
    blocks: Sequence[Sequence[int]],
    before: int,
    steps: int,
    jobs: int,
) -> Iterator[list[Learnt]]:
    """Blocks that several processes learn, in their order as they come; each process takes a few at a time.

    This process alone writes, in the order of the tasks, so that nothing in the run tells how many there were.

    Args:
        learn: blocks and the step of the run that they begin at, to what was learned of each (`elsewhere`).
        blocks: ids of the tasks of each block.
        before: tasks that were learned before.
        steps: per task.
        jobs: processes, 2 or more.

    """
    from joblib import Parallel, delayed

    size = max(1, -(-len(blocks) // (4 * jobs)))
    parts = [blocks[i : i + size] for i in range(0, len(blocks), size)]
    firsts = [before + sum(map(len, blocks[: i * size])) for i in range(len(parts))]
    calls = (delayed(learn)(part, first * steps) for part, first in zip(parts, firsts, strict=True))
    for part in Parallel(n_jobs=jobs, return_as="generator")(calls):
        yield from part


def elsewhere(
    fields: Mapping[str, Any], target: str, blocks: Sequence[Sequence[int]], first: int
) -> list[list[Learnt]]:
    """Some blocks of a bank, learned from the config alone: in another process. UserError where its target is another.

    Args:
        fields: of the bench, by name.
        target: its fingerprint where the blocks are from.
        blocks: ids of the tasks of each block.
        first: the step of the run that the first of them begins at.

    """
    torch.set_num_threads(fields["config"]["threads"])
    bench = Bench(**fields)
    bank = experiment(fields["config"]["run"])
    assert isinstance(bank, Bank)
    if (found := bank.fingerprint(bench)) != target:
        rule = "every process of a bank must make the same target"
        remedy = "its constructor draws from more than its seed; mend it, or pass --jobs 1"
        raise UserError(f"{rule}; got {found[:12]} in a worker and {target[:12]} here; {remedy}")
    learner = bank.learn_by_task(bench, FILLS)
    learnt = []
    for block in blocks:
        learnt.append(bank.learn_block(learner, bench, block, first, Transfer("none")))
        first += len(block) * bank.steps
    return learnt


def _fields(bench: Bench) -> dict[str, Any]:
    """What another process needs to set the same bench up."""
    names = ("seeds", "device", "title", "data", "held_out", "log_every", "config")
    return {name: getattr(bench, name) for name in names}


def _seal(model: neuromod.Modulated, task: int, row: Mapping[str, Mapping[str, Tensor]]) -> None:
    for name, modulator in model.readers("task").items():
        modulator.sealed.seal(task, {key: value.to(modulator.like.device) for key, value in row[name].items()})


def _store(model: neuromod.Modulated, folder: Path) -> Store:
    return Store.open(folder) if Store.exists(folder) else Store.create(folder, model)


def _resume(model: neuromod.Modulated, bench: Bench, store: Store, begun: Transfer) -> dict[int, float]:
    found = bench.run.load()
    tree, step = ({"learned": {}, "sums": {}, "rows": {}}, 0) if found is None else found
    bench.run.rewind(step)
    store.load(model, sorted(store.tasks()))
    for task, rows in tree["rows"].items():
        if task not in store:
            _seal(model, task, rows)
            store.append(model, task)
    begun.sums = tree["sums"]
    return dict(tree["learned"])
