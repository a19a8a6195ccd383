"""Codes: what a shared source is conditioned on, one vector (or image) a row."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.sources.base import Context, Starts, lookup, start_tasks, task_rows


class Codes(nn.Module):
    """Turns a context into codes, one a row, and the index of the row that each sample uses.

    ``reads="task"``: a learned vector (width,) a task; ``"condition"``: the
    condition of the call, (width,) or (B, width); ``"input"``: the first
    input, batch axis first; ``"activation:NAME"``: the output of that module of the unmodulated target.
    """

    def __init__(self, reads: str, tasks: int | Iterable[int], width: int, *, zero: bool = False) -> None:
        super().__init__()
        known = reads in ("task", "condition", "input") or reads.startswith("activation:")
        if not known:
            raise RefusedError(
                f"a source reads 'task', 'condition', 'input' or 'activation:NAME'; got {reads!r}; pick one"
            )
        self.reads, self.width, self.zero = reads, width, zero
        self.initial = start_tasks(tasks) if reads == "task" else ()
        self.table = nn.ParameterDict()

    def bind(self, starts: Starts) -> None:
        for task in self.initial:
            self.add(task, starts, {})

    def add(self, task: int, starts: Starts, options: Mapping[str, int]) -> list[nn.Parameter]:
        """A new task's code: N(0, 1), or zero where codes are mixing weights."""
        if self.reads != "task":
            raise RefusedError(
                f"only a source that reads the task knows tasks; this one reads {self.reads!r}; drop add()"
            )
        if options:
            raise RefusedError(f"a shared source gives every task the same shapes; got {dict(options)}; use a Table")
        if str(task) in self.table:
            raise RefusedError(f"a task is added once; got task {task} again; pick an id that is free")
        drawn = (
            torch.zeros(self.width) if self.zero else torch.randn(self.width, generator=starts.generator("code", task))
        )
        self.table[str(task)] = nn.Parameter(drawn.to(starts.device, starts.dtype))
        return [self.table[str(task)]]

    def example(self, starts: Starts) -> Tensor:
        """Codes like those to come, to size a body with."""
        if self.reads in ("task", "condition"):
            return torch.zeros(2, self.width, device=starts.device, dtype=starts.dtype)
        assert starts.example is not None
        return self.forward(starts.example)[0]

    def tasks(self) -> tuple[int, ...]:
        return tuple(map(int, self.table))

    def forward(self, context: Context) -> tuple[Tensor, Tensor | None]:
        """Codes (rows, ...) and the index (B,) of each sample's row; None where one row serves all."""
        if self.reads == "task":
            return self._of_tasks(context)
        if self.reads == "condition":
            codes = context.condition
            if codes is None:
                raise RefusedError(
                    "a source that reads the condition needs one; got none; pass condition=c to the model"
                )
            if codes.shape[-1] != self.width:
                raise RefusedError(
                    f"a condition has the width the source was made for, {self.width}; got {tuple(codes.shape)}; set code="
                )
            if codes.ndim == 1:
                return codes.unsqueeze(0), None
        elif self.reads == "input":
            codes = context.inputs[0]
        else:
            assert context.activation is not None
            codes = context.activation(self.reads.removeprefix("activation:"))
        return codes, torch.arange(context.size, device=codes.device)

    def _of_tasks(self, context: Context) -> tuple[Tensor, Tensor | None]:
        live = self.tasks()
        if context.ids is not None:
            return torch.stack(list(self.table.values())), lookup(live, context.ids.device)[context.ids]
        chosen = task_rows(dict.fromkeys(live), context)
        return torch.stack([self.table[str(task)] for task in chosen]), context.index

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Grow to the tasks of the state, and drop those that it does not have."""
        head = f"{prefix}table."
        saved = {n.removeprefix(head): v for n, v in state.items() if n.startswith(head)}
        for task in [t for t in self.table if t not in saved]:
            del self.table[task]
        for task, value in saved.items():
            if task not in self.table:
                like = next(iter(self.table.values()), value)
                self.table[task] = nn.Parameter(value.detach().clone().to(like.device))
        super()._load_from_state_dict(state, prefix, *args)


class Body(nn.Module):
    """The default body: ``relu(W code + b)``, (rows, ...) flattened to (rows, n) to (rows, hidden)."""

    def __init__(self, n: int, hidden: int, dtype: torch.dtype, rng: torch.Generator) -> None:
        super().__init__()
        drawn = torch.randn(hidden, n, generator=rng) * (2 / n) ** 0.5
        self.weight = nn.Parameter(drawn.to(dtype))
        self.bias = nn.Parameter(torch.zeros(hidden, dtype=dtype))

    def forward(self, codes: Tensor) -> Tensor:
        return torch.relu(nn.functional.linear(codes.flatten(1), self.weight, self.bias))


def fitted(body: nn.Module | None, hidden: int, codes: Tensor, starts: Starts) -> tuple[nn.Module, int]:
    """The body (the default one if None) and its output width; refuses a body that does not map (R, ...) to (R, F)."""
    if body is None:
        width = codes.flatten(1).shape[1]
        return Body(width, hidden, starts.dtype, starts.generator("body")).to(starts.device), hidden
    training = body.training
    with torch.no_grad():
        features = body.eval()(codes)
    body.train(training)
    if features.ndim != 2 or len(features) != len(codes):
        raise RefusedError(
            f"a body must map codes (rows, ...) to (rows, features); got {tuple(codes.shape)} to {tuple(features.shape)}; "
            "flatten or pool at its end"
        )
    return body, features.shape[1]
