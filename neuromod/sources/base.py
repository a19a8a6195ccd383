"""The contract of a source: a context in, rows of raw numbers out. A source never sees the target."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import arguments
from neuromod.errors import RefusedError
from neuromod.sources.context import Context
from neuromod.sources.loading import Loading

Row = dict[str, Tensor]
"""One row of raw numbers: ``"site/part"`` to a tensor of that part's shape."""
ALL = "all"
"""The name of the one row (or embedding) of a source that reads nothing."""


@dataclass(frozen=True)
class Rows:
    """What a source returns: distinct rows, and which row each sample uses.

    Args:
        values: a tuple of rows (where stacking would cost a copy, or widths differ), or one row whose tensors have a leading axis.
        index: None (row 0 serves all), a 0-d integer tensor (one row serves all, chosen inside a graph), or (B,).

    """

    values: tuple[Row, ...] | Row
    index: Tensor | None = None

    def __len__(self) -> int:
        if isinstance(self.values, tuple):
            return len(self.values)
        return len(next(iter(self.values.values())))

    def row(self, position: int) -> Row:
        """One distinct row."""
        if isinstance(self.values, tuple):
            return self.values[position]
        return {key: value[position] for key, value in self.values.items()}

    def one(self) -> Row:
        """The row that serves all samples."""
        if self.index is None:
            return self.row(0)
        if isinstance(self.values, tuple) and not torch.compiler.is_compiling():
            return self.row(int(self.index))
        position = self.index.reshape(1)
        # Ids are told on the CPU, rows may lie elsewhere.
        return {k: v.index_select(0, position.to(v.device)).squeeze(0) for k, v in self.stacked().items()}

    def gathered(self, index: Tensor) -> Row:
        """A row per sample: tensors with a leading axis of ``len(index)``; ``index`` holds positions of distinct rows."""
        if torch.compiler.is_compiling():
            return {key: value.index_select(0, index) for key, value in self.stacked().items()}
        if isinstance(self.values, tuple):
            return _stack([self.values[position] for position in index.tolist()])
        if _in_order(index, len(self)):
            return self.values
        return {key: value.index_select(0, index.to(value.device)) for key, value in self.values.items()}

    def stacked(self) -> Row:
        """All distinct rows with a leading row axis."""
        return _stack(self.values) if isinstance(self.values, tuple) else self.values


def _stack(rows: Sequence[Row]) -> Row:
    """Rows with a leading axis; refuses rows that differ in form (sealed beside live masks, heads of other widths)."""
    forms = [{key: value.shape for key, value in row.items()} for row in rows]
    if any(form != forms[0] for form in forms):
        raise RefusedError(
            "one call for all samples takes rows of one form; got sealed beside live rows, or heads of other widths; "
            "split the batch instead (vmap=False)"
        )
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def _in_order(index: Tensor, count: int) -> bool:
    """Whether every row serves one sample, in order, so that nothing has to be copied; not asked where it costs more."""
    return len(index) == count and index.device.type == "cpu" and torch.equal(index, torch.arange(count))


@dataclass(frozen=True)
class Starts:
    """What a source is told when it is bound (`Source.bind`, `add`): all that it needs to make rows, without seeing the target.

    Args:
        shapes: of every raw number by its key, ``"site/part"``.
        scales: of every key `Kind.scale`: the standard deviation of numbers that are generated without an offset; 0: they start
            at an offset.
        row: ``row(task, **options)`` draws the start row of a task, the same each time; ``row("offset")`` is the one that a
            shared source adds to.
        own: whether that start is the target's own value (an identity): the same for every task, so it is never stored.
        learned: False where numbers are measured, and kept as buffers.
        dtype: of the numbers.
        device: where they lie.
        generator: ``generator("head", key)`` is a fresh CPU generator for the draw of that name.
        example: a call like those to come, to size bodies with; None in `add`.
        resized: whether a task may have more or fewer numbers than the others along the first axis (heads of other widths).

    """

    shapes: Mapping[str, tuple[int, ...]]
    scales: Mapping[str, float]
    row: Callable[..., Row]
    own: bool
    learned: bool
    dtype: torch.dtype
    device: torch.device
    generator: Callable[..., torch.Generator]
    example: Context | None
    resized: bool = False


class Source(Loading):
    """Turns a context into rows.

    ``reads`` is ``"task"``, ``"condition"``, ``"input"``, ``"activation:NAME"``, or ``"nothing"`` (one row for all). A source of your
    own has `bind` and `forward`; one that reads the task also `add`, `tasks`, `own` and `forget`; one that shall be stored
    `arguments`.
    """

    reads: str = "task"
    blends: bool = False
    """Whether rows hold numbers of `Kind.blend`, which no tap takes at a weight."""

    def bind(self, starts: Starts) -> None:
        """Take on the shapes of a modulator's sites and start; called once."""
        raise NotImplementedError

    def add(self, task: int, starts: Starts, options: Mapping[str, int]) -> list[nn.Parameter]:
        """Learn of a new task; returns its new parameters, for ``optimizer.add_param_group``.

        Args:
            task: an id that is free.
            starts: as in `bind`.
            options: those of `Modulator.add`, {"width": 5} for a `Head`; a source that can't use one refuses it.

        """
        raise NotImplementedError

    def tasks(self) -> tuple[int, ...]:
        """The live tasks."""
        return ()

    def own(self, task: int) -> Row:
        """The tensors that a live task has for itself: its whole row, or the embedding that a shared part turns into one."""
        return {}

    def arguments(self) -> dict[str, Any]:
        """What its class is called with to make one like it, without tasks; in JSON, for a `Store`.

        A source of your own that shall be stored says it here: ``{}`` where its class takes nothing. The body of a shared
        source stands under "body" by its name, and is passed as a module.
        """
        raise RefusedError(
            f"a stored source says how it is made; {type(self).__name__} does not; give it arguments(), or keep it with "
            "state_dict()"
        )

    def names(self, context: Context) -> Sequence[object]:
        """What each row of a call is of, so that its noise is the same in any batch; empty where only its place tells."""
        return context.tasks or () if self.reads == "task" else ()

    def forget(self, task: int) -> None:
        """Drop what only this task needs (after it was sealed)."""
        raise NotImplementedError

    def tasks_in(self, state: Mapping[str, Any], prefix: str) -> tuple[int, ...] | None:
        """The live tasks whose rows a saved state holds whole; None where a source of your own loads its tasks itself.

        Args:
            state: a saved state.
            prefix: what keys of this source begin with.

        """
        return None

    def _take_tasks(self, state: Mapping[str, Any], prefix: str) -> None:
        there = self.tasks_in(state, prefix)
        for task in self.tasks() if there else ():
            if task not in (there or ()):
                self.forget(task)

    def forward(self, context: Context) -> Rows:
        """Rows for a call."""
        raise NotImplementedError


def start_tasks(tasks: int | Iterable[int]) -> tuple[int, ...]:
    """``3`` means tasks 0, 1, 2; an iterable lists the ids."""
    try:
        listed = isinstance(tasks, Iterable) and getattr(tasks, "shape", None) != ()
        return (
            arguments.task_ids(tasks)
            if listed
            else tuple(range(arguments.count(tasks, "a count of tasks", most=10**9)))
        )
    except RefusedError:
        raise RefusedError(
            f"tasks must be a count or distinct ids >= 0; got {arguments.shown(tasks)}; pass tasks=5 or tasks=[0, 3]"
        ) from None


def task_rows(rows: Mapping[int, object], context: Context) -> tuple[int, ...]:
    """The distinct tasks of a call, all of them known."""
    for task in context.tasks or ():
        if task not in rows:
            known = sorted(rows)
            shown = f"{known[:8]}{' ...' if len(known) > 8 else ''}"
            raise RefusedError(f"a task must be known; got task {task}; known are {shown}; call add({task}) first")
    return context.tasks or ()


def name_of(task: int | str, held: nn.ModuleDict | nn.ParameterDict) -> str:
    """The name that a live task's own tensors are kept under. Refused: a task that has none there."""
    name = str(task if isinstance(task, int | str) else arguments.task_id(task))
    if name not in held:
        raise RefusedError(
            f"a task must be live to have tensors of its own; task {arguments.shown(task)} is not; call add(task) first"
        )
    return name


def lookup(tasks: Iterable[int], device: torch.device) -> Tensor:
    """An int64 table from task id to its position among ``tasks``, -1 where there is none."""
    place = {task: position for position, task in enumerate(tasks)}
    return torch.tensor([place.get(task, -1) for task in range(max(place, default=0) + 1)], device=device)


def by_site(row: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A row's raw numbers as {site label: {part: tensor}}."""
    raws: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in row.items():
        label, _, part = key.rpartition("/")
        raws[label][part] = value
    return raws
