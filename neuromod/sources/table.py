"""`Table`: raw numbers learned directly, one row of parameters a task."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.sources.base import Context, Row, Rows, Source, Starts, lookup, start_tasks, task_rows


class Table(Source):
    """One row of parameters for each live task.

    Each task has parameters of its own (not a slice of one tensor), so a task that is not in the batch has no gradient
    and no optimiser, momentum or weight decay moves it, and a task can join under a running optimiser.

    Args:
        tasks: a count (ids 0, 1, ...) or the ids to start with; more with ``add``.
    """

    def __init__(self, tasks: int | Iterable[int] = 1) -> None:
        super().__init__()
        self.initial = start_tasks(tasks)
        self.rows = nn.ModuleDict()
        self.learned = True

    def bind(self, starts: Starts) -> None:
        self.learned = starts.learned
        for task in self.initial:
            self.add(task, starts, {})

    def add(self, task: int, starts: Starts, options: Mapping[str, int]) -> list[nn.Parameter]:
        """A start row for a new task; constant cost, however many tasks there are."""
        if str(task) in self.rows:
            raise RefusedError(f"a task is added once; got task {task} again; pick an id that is free")
        self._insert(task, starts.row(task, **options))
        return list(self.rows[str(task)].parameters())

    def tasks(self) -> tuple[int, ...]:
        return tuple(map(int, self.rows))

    def forget(self, task: int) -> None:
        del self.rows[str(task)]

    def row(self, task: int) -> Row:
        """The live row of a task: parameters, or buffers where numbers are measured."""
        held = self.rows[str(task)]
        return {**held._parameters, **held._buffers}  # type: ignore[dict-item]

    def forward(self, context: Context) -> Rows:
        live = self.tasks()
        if context.ids is not None:
            return Rows(tuple(map(self.row, live)), lookup(live, context.ids.device)[context.ids])
        return Rows(tuple(map(self.row, task_rows(dict.fromkeys(live), context))), context.index)

    def _insert(self, task: int, row: Row) -> None:
        held = nn.Module()
        for key, value in row.items():
            if self.learned:
                held.register_parameter(key, nn.Parameter(value.detach().clone()))
            else:
                held.register_buffer(key, value.detach().clone())
        self.rows[str(task)] = held

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Grow to the tasks (and widths) of the state, and drop those that it does not have."""
        saved: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith(f"{prefix}rows."):
                task, _, key = name.removeprefix(f"{prefix}rows.").partition(".")
                saved.setdefault(int(task), {})[key] = value
        for task in self.tasks():
            if task not in saved:
                self.forget(task)
        for task, row in saved.items():
            held = self.row(task) if str(task) in self.rows else {}
            if {k: v.shape for k, v in held.items()} != {k: v.shape for k, v in row.items()}:
                like = next(iter(held.values()), next(iter(row.values())))
                self._insert(task, {key: value.to(like.device) for key, value in row.items()})
        super()._load_from_state_dict(state, prefix, *args)


class Sealed(Source):
    """Rows at rest: one tensor a site for all sealed tasks, indexed by an integer task tensor.

    Tasks whose rows have the same shapes share a stack; capacity doubles, so that sealing costs amortised constant time
    and a compiled graph sees few sizes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stacks = nn.ModuleList()
        self.places: dict[int, tuple[int, int]] = {}

    def tasks(self) -> tuple[int, ...]:
        return tuple(self.places)

    def seal(self, task: int, row: Row) -> None:
        """Take in a row; a copy is kept."""
        shapes = {key: tuple(value.shape) for key, value in row.items()}
        number = next((i for i, s in enumerate(self.stacks) if s.shapes() == shapes), None)
        if number is None:
            number = len(self.stacks)
            self.stacks.append(_Stack())
        self.places[task] = (number, self.stacks[number].append(task, row))  # type: ignore[operator, union-attr]

    def row(self, task: int) -> Row:
        """The row of a sealed task (views)."""
        number, position = self.places[task]
        return {key: value[position] for key, value in self.stacks[number].values().items()}  # type: ignore[operator]

    def forward(self, context: Context) -> Rows:
        if context.ids is None:
            return Rows(tuple(map(self.row, task_rows(self.places, context))), context.index)
        if len(self.stacks) != 1:
            raise RefusedError(f"one graph serves rows of one shape; got {len(self.stacks)} shapes; call without compiling")
        positions = lookup(self.stacks[0].order, context.ids.device)  # type: ignore[operator]
        return Rows(self.stacks[0].values(), positions[context.ids])  # type: ignore[operator]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        numbers = sorted({int(n.removeprefix(f"{prefix}stacks.").partition(".")[0]) for n in state if n.startswith(f"{prefix}stacks.")})
        self.stacks = nn.ModuleList(_Stack() for _ in numbers)
        self.places = {}
        for number, stack in enumerate(self.stacks):
            head = f"{prefix}stacks.{number}."
            stack.fill({n.removeprefix(head): v for n, v in state.items() if n.startswith(head)})  # type: ignore[operator]
            self.places |= {task: (number, i) for i, task in enumerate(stack.order)}  # type: ignore[operator]
        super()._load_from_state_dict(state, prefix, *args)


class _Stack(nn.Module):
    """Rows of one shape, stacked a site; ``count`` of ``capacity`` are in use."""

    task: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("task", torch.empty(0, dtype=torch.long))
        self.order: list[int] = []

    @property
    def count(self) -> int:
        return len(self.order)

    def values(self) -> Row:
        return {key: value for key, value in self._buffers.items() if key != "task" and value is not None}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape[1:]) for key, value in self.values().items()}

    def append(self, task: int, row: Row) -> int:
        position = self.count
        entry = row | {"task": torch.tensor(task)}
        if position == self.task.shape[0]:
            for key, value in entry.items():
                self._grow(key, value)
        for key, value in entry.items():
            self.get_buffer(key)[position] = value
        self.order.append(task)
        return position

    def fill(self, rows: Row) -> None:
        self.order = rows["task"].tolist()
        for key, value in rows.items():
            self.register_buffer(key, torch.empty_like(value))

    def _grow(self, key: str, value: Tensor) -> None:
        old = self._buffers.get(key)
        capacity = max(4, 2 * self.count)
        device = value.device if old is None or key != "task" else old.device
        new = torch.zeros((capacity, *value.shape), dtype=value.dtype, device=device)
        if old is not None and self.count:
            new[: self.count] = old[: self.count]
        self.register_buffer(key, new)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for key, value in self._buffers.items():
            if value is not None:
                destination[prefix + key] = value[: self.count] if keep_vars else value[: self.count].detach()
