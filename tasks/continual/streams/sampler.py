"""Which images make batch number i: a pure function of the seed and of i, so that a run resumes without replaying."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tasks.continual.streams.augment import Augment
from tasks.continual.streams.base import Split, Stream, Task
from tasks.continual.streams.permuted import side_by_side
from tasks.errors import UserError
from tasks.runs.seeds import derive, generator


class BatchSampler:
    """Batches of one size out of shuffled epochs laid end to end; a batch at a seam takes from both epochs.

    So every image is drawn once per epoch, no batch is short, and a split smaller than a batch repeats. Only the
    permutation of the epoch drawn last is kept. UserError for an empty split or batch.

    Args:
        split_length: images of the split, at least 1.
        batch: images per batch, at least 1.
        seed: of the orders of all epochs.

    """

    def __init__(self, split_length: int, batch: int, seed: int) -> None:
        if split_length < 1 or batch < 1:
            raise UserError(
                f"batches need images and a size of at least 1; got {split_length} images, batch={batch}; correct it"
            )
        self.length, self.batch, self.seed = split_length, batch, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int32)

    def indices(self, step: int) -> Tensor:
        """The images of batch number `step`, int64 (batch,), on the CPU."""
        return self.span(step * self.batch, self.batch)

    def span(self, start: int, count: int) -> Tensor:
        """The images at places start, ..., start + count - 1 of the epochs laid end to end, int64 (count,)."""
        pieces = []
        while count > 0:
            epoch, place = divmod(start, self.length)
            piece = self._permutation(epoch)[place : place + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return torch.cat(pieces).long() if pieces else torch.empty(0, dtype=torch.int64)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            # Half the bytes of int64: a mixed sampler keeps one of these for every task.
            draw = generator("epoch", self.seed, epoch)
            self._epoch, self._order = epoch, torch.randperm(self.length, generator=draw, dtype=torch.int32)
        return self._order


class MixedSampler:
    """Batches that mix tasks, grouped by task in the order of the call; a batch is a pure function of its number.

    UserError for a balance or a number of tasks that a batch can't have.

    Args:
        stream: whose training images.
        batch: samples per batch, at least 1.
        seed: of all batches.
        tasks_per_batch: each batch draws at most so many of the tasks; None: all of them.
        balance: one positive weight per task of the stream, groups by largest remainders; None: equal groups, the
            remainder going to the first.
        augment: changes the images of a batch before the view of their task (`tasks.continual.streams.augment`).
        channels_last: lays inputs of four axes out channels last, for convolutions on a GPU.

    """

    def __init__(
        self,
        stream: Stream,
        batch: int,
        seed: int,
        tasks_per_batch: int | None = None,
        balance: Sequence[float] | None = None,
        *,
        augment: Augment | None = None,
        channels_last: bool = False,
    ) -> None:  # reason: what a batch is made of
        if tasks_per_batch is not None and not 1 <= tasks_per_batch <= batch:
            raise UserError(f"tasks_per_batch must be in 1..{batch} (the batch); got {tasks_per_batch}; correct it")
        if balance is not None and (
            len(balance) != len(stream) or not all(math.isfinite(weight) and weight > 0 for weight in balance)
        ):
            raise UserError(
                f"balance needs {len(stream)} positive weights, one per task; got {list(balance)}; correct it"
            )
        self.stream, self.batch, self.seed = stream, batch, seed
        self.tasks_per_batch, self.balance = tasks_per_batch, balance
        self.augment, self.channels_last = augment, channels_last
        self._samplers: dict[int, BatchSampler] = {}

    def draw(self, step: int, tasks: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs float (B, ...), labels int64 (B,) and task ids int64 (B,) from the given tasks of the stream."""
        chosen = self._choose(step, tasks)
        inputs, labels, ids = [], [], []
        for task, size in zip(chosen, self._sizes(chosen), strict=True):
            x, y = self._gather(task, step, self._sampler(task).span(step * size, size))
            inputs.append(x)
            labels.append(y)
            ids.append(torch.full_like(y, task))
        return torch.cat(inputs), torch.cat(labels), torch.cat(ids)

    def draw_apart(self, step: int, tasks: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A whole batch of each task, the one that it has alone: inputs float (T, B, ...) and labels int64 (T, B)."""
        index = torch.stack([self._sampler(task).span(step * self.batch, self.batch) for task in tasks])
        chosen = [self.stream[task] for task in tasks]
        first = chosen[0].train
        if self.augment is not None or self.channels_last or any(task.train is not first for task in chosen):
            parts = [self._gather(task, step, row) for task, row in zip(tasks, index, strict=True)]
            return torch.stack([x for x, _ in parts]), torch.stack([y for _, y in parts])
        index = index.to(first.images.device)
        return side_by_side([task.view for task in chosen], first.images[index]), first.labels[index]

    def _gather(self, number: int, step: int, index: Tensor) -> tuple[Tensor, Tensor]:
        task = self.stream[number]
        index = index.to(task.train.labels.device)
        images, labels = task.train.images.index_select(0, index), task.train.labels.index_select(0, index)
        if self.augment is not None:
            images = self.augment(images, generator("augment", self.seed, number, step))
        x = task.view(images)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.ndim == 4 else x, labels

    def _choose(self, step: int, tasks: Sequence[int]) -> list[int]:
        chosen = list(tasks)
        if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= task < len(self.stream) for task in chosen):
            rule = f"a mixed batch needs different tasks out of 0..{len(self.stream) - 1}"
            raise UserError(f"{rule}; got {chosen}; correct it")
        if self.tasks_per_batch is not None and self.tasks_per_batch < len(chosen):
            order = torch.randperm(len(chosen), generator=generator("tasks", self.seed, step))
            chosen = [chosen[i] for i in sorted(order[: self.tasks_per_batch].tolist())]
        if len(chosen) > self.batch:
            raise UserError(f"a batch of {self.batch} can't hold {len(chosen)} tasks; pass tasks_per_batch")
        return chosen

    def _sizes(self, chosen: list[int]) -> list[int]:
        """Rows for each task, summing to the batch."""
        weights = [1.0] * len(chosen) if self.balance is None else [self.balance[task] for task in chosen]
        shares = [self.batch * weight / math.fsum(weights) for weight in weights]
        sizes = [math.floor(share) for share in shares]
        # sorted() is stable, so equal remainders go to the first.
        by_remainder = sorted(range(len(chosen)), key=lambda i: sizes[i] - shares[i])
        for i in by_remainder[: self.batch - sum(sizes)]:
            sizes[i] += 1
        return sizes

    def _sampler(self, task: int) -> BatchSampler:
        if task not in self._samplers:
            # A seed for each task: tasks that share their images must not draw the same ones together.
            seed = derive("task", self.seed, task)
            self._samplers[task] = BatchSampler(len(self.stream[task].train), self.batch, seed)
        return self._samplers[task]


def batches(
    task: Task, batch: int, generator: torch.Generator, *, steps: int, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches number start, ..., steps - 1 of a task's training images: inputs float (batch, ...), labels int64
    (batch,).

    Args:
        task: whose images.
        batch: images per batch.
        generator: gives one number, the seed of a `BatchSampler`; to resume, pass an equal one.
        steps: where the batches end.
        start: the number of the first batch.

    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    sampler = BatchSampler(len(task.train), batch, seed)
    return (_gather(task, sampler.indices(step)) for step in range(start, steps))


def evaluate_batches(split: Split, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole split in order, before the task's view: uint8 (b, C, H, W), labels (b,); the last may be short."""
    for start in range(0, len(split), batch):
        yield split.images[start : start + batch], split.labels[start : start + batch]


def _gather(task: Task, index: Tensor) -> tuple[Tensor, Tensor]:
    index = index.to(task.train.labels.device)
    return task.view(task.train.images.index_select(0, index)), task.train.labels.index_select(0, index)
