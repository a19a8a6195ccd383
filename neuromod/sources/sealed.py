"""`Sealed`: rows at rest, the in-memory bank of a modulator."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.sources.base import Row, Rows, Source, lookup, task_rows
from neuromod.sources.context import Context
from neuromod.sources.loading import fits, rows_in


class Sealed(Source):
    """Rows at rest: one tensor per site for all sealed tasks, indexed by an integer task tensor.

    Tasks whose rows have the same shapes share a stack; capacity doubles, so that sealing costs amortised constant time
    and a compiled graph sees few sizes.
    """

    expected: tuple[Row, Tensor, bool] | None = None

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

    def keep(self, tasks: Collection[int]) -> None:
        """Drop every sealed task but these."""
        if set(self.places) <= set(tasks):
            return
        rows = {task: self.row(task) for task in self.places if task in tasks}
        self.stacks, self.places = nn.ModuleList(), {}
        for task, row in rows.items():
            self.seal(task, row)

    def tasks_in(self, state: Mapping[str, Any], prefix: str) -> tuple[int, ...]:
        return tuple(task for tasks, _ in self._stacks_in(state, prefix).values() for task in tasks)

    def expect(self, row: Row, like: Tensor, *, resized: bool = False) -> None:
        """Say what rows at rest look like, so that those of another modulator are told from them when a state is loaded.

        Args:
            row: such a row; shapes and dtypes count.
            like: a tensor of the dtype of floats, on the device of all.
            resized: as of `loading.fits`.

        """
        self.__dict__["expected"] = row, like, resized

    def _is_row(self, row: Row) -> bool:
        if self.expected is None:
            return all(key and "." not in key for key in row)
        wanted, _, resized = self.expected
        if not fits(row, {key: tuple(value.shape) for key, value in wanted.items()}, resized=resized):
            return False
        return all(
            v.dtype == w.dtype or (v.is_floating_point() and w.is_floating_point()) for v, w in _pairs(row, wanted)
        )

    def _stacks_in(self, state: Mapping[str, Any], prefix: str) -> dict[str, tuple[list[int], Row]]:
        """Whole stacks of a state by their number: ids of tasks, and their rows of this modulator."""
        found: dict[str, tuple[list[int], Row]] = {}
        seen: set[int] = set()
        for number, stack in rows_in(state, f"{prefix}stacks.").items():
            ids = stack.pop("task", torch.zeros(1, 1))
            whole = ids.ndim == 1 and ids.dtype == torch.long and all(v.shape[:1] == ids.shape for v in stack.values())
            tasks = ids.tolist() if whole else []
            fresh = len({*tasks} - seen) == len(tasks) > 0 and min(tasks) >= 0
            if fresh and self._is_row({key: value[0] for key, value in stack.items()}):
                found[number] = tasks, stack
                seen |= {*tasks}
        return found

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take in the tasks of the state; those that it does not have stay."""
        head, (missing, unexpected) = f"{prefix}stacks.", args[2:4]
        found = self._stacks_in(state, prefix)
        taken = {task for tasks, _ in found.values() for task in tasks}
        for number, stack in enumerate(self._stacks()):
            missing += [f"{head}{number}.{key}" for key in stack._buffers if not taken.issuperset(stack.order)]
        for name in [name for name in state if name.startswith(head)]:
            unexpected += [name] * (name.removeprefix(head).partition(".")[0] not in found)
            del state[name]
        for tasks, rows in found.values():
            for position, task in enumerate(tasks):
                self._put(task, {key: self._alike(value[position]) for key, value in rows.items()})
        # What lies here now is what the stacks are told to load, so that torch finds no key too many or too few.
        for number, stack in enumerate(self._stacks()):
            stack.trim()
            state |= {f"{head}{number}.{key}": value for key, value in stack._buffers.items()}
        super()._load_from_state_dict(state, prefix, *args)

    def _put(self, task: int, row: Row) -> None:
        shapes = {key: tuple(value.shape) for key, value in row.items()}
        if task in self.places and {k: tuple(v.shape) for k, v in self.row(task).items()} != shapes:
            self.keep([other for other in self.places if other != task])
        if task not in self.places:
            self.seal(task, row)
        for key, value in self.row(task).items():
            value.copy_(row[key])

    def _alike(self, value: Tensor) -> Tensor:
        if self.expected is None:
            return value
        like = self.expected[1]
        return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)


def _pairs(row: Row, wanted: Row) -> list[tuple[Tensor, Tensor]]:
    return [(row[key], value) for key, value in wanted.items()]


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

    def trim(self) -> None:
        """Give up the spare capacity."""
        for key, value in self._buffers.items():
            if value is not None and len(value) > self.count:
                self._buffers[key] = value[: self.count].clone()

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
                used = value[: self.count]
                # A view of a longer tensor is no tensor of its own: safetensors and pickles would refuse or write the whole.
                destination[prefix + key] = used if keep_vars or len(value) == self.count else used.detach().clone()
