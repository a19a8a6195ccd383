"""`Sealed`: rows at rest, the in-memory bank of a modulator."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.sources.base import Row, Rows, Source, lookup, task_rows
from neuromod.sources.context import Context


class Sealed(Source):
    """Rows at rest: one tensor per site for all sealed tasks, indexed by an integer task tensor.

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
        number = next((i for i, stack in enumerate(self._stacks()) if stack.shapes() == shapes), None)
        if number is None:
            number = len(self.stacks)
            self.stacks.append(_Stack())
        self.places[task] = (number, self._stacks()[number].append(task, row))

    def row(self, task: int) -> Row:
        """The row of a sealed task (views)."""
        number, position = self.places[task]
        return {key: value[position] for key, value in self._stacks()[number].values().items()}

    def column(self, key: str, tasks: Sequence[int]) -> Tensor:
        """One tensor of the rows of sealed tasks, (len(tasks), ...); a view where they lie together in this order."""
        numbers = {self.places[task][0] for task in tasks}
        if len(numbers) != 1:
            raise RefusedError(f"a column needs rows of one shape; got {len(numbers)} shapes; read row(task) instead")
        whole = self._stacks()[numbers.pop()].values()[key]
        positions = [self.places[task][1] for task in tasks]
        if positions == list(range(positions[0], positions[0] + len(positions))):
            return whole[positions[0] : positions[0] + len(positions)]
        return whole[torch.tensor(positions, device=whole.device)]

    def forward(self, context: Context) -> Rows:
        if context.ids is None:
            return self._told(task_rows(self.places, context), context.index)
        if len(self.stacks) != 1:
            count = len(self.stacks)
            raise RefusedError(f"one graph serves rows of one shape; got {count} shapes; call without compiling")
        stack = self._stacks()[0]
        return Rows(stack.values(), lookup(stack.order, context.ids.device)[context.ids])

    def _told(self, tasks: tuple[int, ...], index: Tensor | None) -> Rows:
        numbers = {self.places[task][0] for task in tasks}
        if index is None or len(numbers) > 1:
            return Rows(tuple(map(self.row, tasks)), index)
        # All tasks of the stack are the rows, and only those in the batch are ever read.
        positions = torch.tensor([self.places[task][1] for task in tasks])
        return Rows(self._stacks()[numbers.pop()].values(), positions[index])

    def _stacks(self) -> list["_Stack"]:
        return list(self.stacks)  # type: ignore[arg-type]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        head = f"{prefix}stacks."
        numbers = {int(name.removeprefix(head).partition(".")[0]) for name in state if name.startswith(head)}
        self.stacks = nn.ModuleList(_Stack() for _ in numbers)
        self.places = {}
        for number, stack in enumerate(self._stacks()):
            own = f"{head}{number}."
            stack.fill({name.removeprefix(own): value for name, value in state.items() if name.startswith(own)})
            self.places |= {task: (number, position) for position, task in enumerate(stack.order)}
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
