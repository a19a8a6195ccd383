"""`Table`: raw numbers learned directly, one row of parameters per task."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.sources.base import ALL, Row, Rows, Source, Starts, lookup, name_of, start_tasks, task_rows
from neuromod.sources.context import Context
from neuromod.sources.loading import ID, fits, rows_in


class Table(Source):
    """One row of parameters for each live task.

    Each task has parameters of its own (not a slice of one tensor), so a task that is not in the batch has no gradient
    and no optimiser, momentum or weight decay moves it, and a task can join under a running optimiser.

    Args:
        tasks: a count (ids 0, 1, ...) or the ids to start with; more with ``add``. None: one row for all samples, and no
            task is read.

    """

    like: Tensor

    def __init__(self, tasks: int | Iterable[int] | None = 1) -> None:
        super().__init__()
        self.reads = "task" if tasks is not None else "nothing"
        self.initial = () if tasks is None else start_tasks(tasks)
        self.rows = nn.ModuleDict()
        self.learned, self.resized = True, False
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.register_buffer("like", torch.empty(0), persistent=False)

    def bind(self, starts: Starts) -> None:
        self.learned, self.resized, self.shapes = starts.learned, starts.resized, dict(starts.shapes)
        self.like = torch.empty(0, device=starts.device, dtype=starts.dtype)
        if self.reads == "nothing":
            self._insert(ALL, starts.row(ALL))
        for task in self.initial:
            self.add(task, starts, {})

    def add(self, task: int, starts: Starts, options: Mapping[str, int]) -> list[nn.Parameter]:
        """A start row for a new task; constant cost, however many tasks there are."""
        if self.reads == "nothing":
            raise RefusedError(
                "a table with one row for all knows no tasks; drop add(), or make it with Table(tasks=...)"
            )
        if str(task) in self.rows:
            raise RefusedError(f"a task is added once; got task {task} again; pick an id that is free")
        self._insert(task, starts.row(task, **options))
        return list(self.rows[str(task)].parameters())

    def tasks(self) -> tuple[int, ...]:
        return tuple(int(task) for task in self.rows if task != ALL)

    def forget(self, task: int) -> None:
        del self.rows[name_of(task, self.rows)]

    def own(self, task: int | str) -> Row:
        """The live row of a task: parameters, or buffers where numbers are measured."""
        held = self.rows[name_of(task, self.rows)]
        return {key: value for key, value in (held._parameters | held._buffers).items() if value is not None}

    def arguments(self) -> dict[str, Any]:
        return {"tasks": None if self.reads == "nothing" else []}

    def forward(self, context: Context) -> Rows:
        if self.reads == "nothing":
            return Rows((self.own(ALL),))
        live = self.tasks()
        if context.ids is not None:
            return Rows(tuple(map(self.own, live)), lookup(live, context.ids.device)[context.ids])
        return Rows(tuple(map(self.own, task_rows(dict.fromkeys(live), context))), context.index)

    def tasks_in(self, state: Mapping[str, Any], prefix: str) -> tuple[int, ...]:
        return tuple(int(name) for name in self._rows_in(state, prefix) if name != ALL)

    def _insert(self, task: int | str, row: Row) -> None:
        held = nn.Module()
        for key, value in row.items():
            if self.learned:
                held.register_parameter(key, nn.Parameter(value.detach().clone()))
            else:
                held.register_buffer(key, value.detach().clone())
        self.rows[str(task)] = held

    def _rows_in(self, state: Mapping[str, Any], prefix: str) -> dict[str, Row]:
        """Whole rows of a state by name: ids of tasks, or `ALL` for a table of one row."""
        known = re.compile(ALL) if self.reads == "nothing" else ID
        rows = rows_in(state, f"{prefix}rows.")
        return {n: r for n, r in rows.items() if known.fullmatch(n) and fits(r, self.shapes, resized=self.resized)}

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Grow to the tasks (and widths) of the state; rows that it does not have stay."""
        for name, row in self._rows_in(state, prefix).items():
            held = self.own(name) if name in self.rows else {}
            if {k: v.shape for k, v in held.items()} != {k: v.shape for k, v in row.items()}:
                self._insert(name, {key: value.to(self.like) for key, value in row.items()})
        super()._load_from_state_dict(state, prefix, *args)
