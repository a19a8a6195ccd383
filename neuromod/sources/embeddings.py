"""Embeddings: what a shared source is conditioned on, one vector (or image, or support set) a row."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.arguments import count, shown
from neuromod.errors import RefusedError
from neuromod.sources.base import ALL, Starts, lookup, start_tasks, task_rows
from neuromod.sources.context import Context
from neuromod.sources.loading import ID, fits, rows_in

Shape = Sequence[int | None]
READS = ("task", "condition", "input", "nothing")


class Embeddings(nn.Module):
    """What a shared source is conditioned on: a context in, embeddings (rows, ...) and the index of each sample's row out.

    ``reads="task"``: a learned vector (width,) for each task; ``"condition"``: the condition of the call, one for all samples or
    one per sample, of the given shape, or with ``labels=n`` an integer in [0, n), one-hot; ``"input"``: the first input, batch axis
    first; ``"activation:NAME"``: the output of that module of the unmodulated target; ``"nothing"``: one learned vector for all.

    Args:
        reads: as above.
        tasks: a count or ids to start with, where it reads the task.
        shape: the width of a learned vector, or the shape of a condition; None in front is the axis of a support set of any size.
        labels: classes of an integer condition; None for a condition of floats.
        zero: learned vectors start at zero (mixing weights) instead of N(0, 1).

    """

    one_hot: Tensor | None
    like: Tensor

    def __init__(
        self,
        reads: str,
        tasks: int | Iterable[int],
        shape: int | Shape,
        *,
        labels: int | None = None,
        zero: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(reads, str) or (reads not in READS and not reads.startswith("activation:")):
            raise RefusedError(
                f"a source reads {', '.join(map(repr, READS))} or 'activation:NAME'; got {shown(reads)}; pick one"
            )
        labels = None if labels is None else count(labels, "labels=, the number of classes,", least=1)
        if labels is not None and reads != "condition":
            raise RefusedError(
                f"labels= is the number of classes of an integer condition; got {labels} for a source that reads "
                f"{reads!r}; drop it"
            )
        self.reads, self.labels, self.zero = reads, labels, zero
        several = (
            isinstance(shape, Iterable) and not isinstance(shape, str | bytes) and getattr(shape, "shape", None) != ()
        )
        widths = tuple(shape) if several else (shape,)  # type: ignore[arg-type]
        try:
            self.shape: tuple[int | None, ...] = tuple(n if n is None else count(n, "a width", least=1) for n in widths)
        except RefusedError:
            self.shape = ()
        if not self.shape:
            raise RefusedError(
                f"an embedding has a width of at least 1; got {shown(shape)}; pass embedding=16, or the shape of a condition"
            )
        if None in self.shape[1:] or (reads in ("task", "nothing") and (None in self.shape or len(self.shape) != 1)):
            raise RefusedError(
                f"an embedding is a width, or the shape of a condition with None for a set axis in front; got {shape!r}"
            )
        self.initial = start_tasks(tasks) if reads == "task" else ()
        self.table = nn.ParameterDict()
        self.register_buffer("one_hot", None, persistent=False)
        self.register_buffer("like", torch.empty(0), persistent=False)

    @property
    def is_set(self) -> bool:
        """Whether the condition is a support set: items along the first axis of each row."""
        return self.reads == "condition" and self.labels is None and self.shape[:1] == (None,)

    def bind(self, starts: Starts) -> None:
        self.like = torch.empty(0, device=starts.device, dtype=starts.dtype)
        if self.labels is not None:
            self.one_hot = torch.eye(self.labels, device=starts.device, dtype=starts.dtype)
        if self.reads == "nothing":
            self._insert(ALL, starts)
        for task in self.initial:
            self.add(task, starts, {})

    def add(self, task: int, starts: Starts, options: Mapping[str, int]) -> list[nn.Parameter]:
        """A new task's embedding: N(0, 1), or zero where embeddings are mixing weights."""
        if self.reads != "task":
            raise RefusedError(
                f"only a source that reads the task knows tasks; this one reads {self.reads!r}; drop add()"
            )
        if options:
            raise RefusedError(f"a shared source gives every task the same shapes; got {dict(options)}; use a Table")
        if str(task) in self.table:
            raise RefusedError(f"a task is added once; got task {task} again; pick an id that is free")
        return [self._insert(task, starts)]

    def _insert(self, task: int | str, starts: Starts) -> nn.Parameter:
        width = self.shape[0]
        assert width is not None
        drawn = torch.zeros(width) if self.zero else torch.randn(width, generator=starts.generator("code", task))
        code = nn.Parameter(drawn.to(starts.device, starts.dtype))
        self.table[str(task)] = code
        return code

    def example(self, starts: Starts) -> Tensor:
        """Embeddings like those to come, to size a body with."""
        if self.one_hot is not None:
            return self.one_hot
        if self.reads in ("task", "condition", "nothing"):
            shape = (2, *(3 if n is None else n for n in self.shape))
            return torch.zeros(shape, device=starts.device, dtype=starts.dtype)
        assert starts.example is not None
        return self.forward(starts.example)[0]

    def tasks(self) -> tuple[int, ...]:
        return tuple(int(task) for task in self.table if task != ALL)

    def forward(self, context: Context) -> tuple[Tensor, Tensor | None]:
        """Embeddings (rows, ...) and the index (B,) of each sample's row; None where one row serves all."""
        if self.reads == "task":
            return self._of_tasks(context)
        if self.reads == "nothing":
            return self.table[ALL].unsqueeze(0), None
        if self.reads == "condition":
            if context.condition is None:
                raise RefusedError(
                    "a source that reads the condition needs one; got none; pass condition=c to the model"
                )
            return self._of_condition(context.condition, context.size)
        if self.reads == "input":
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
        return finite(torch.stack([self.table[str(task)] for task in chosen]), "a task's embedding"), context.index

    def _of_condition(self, condition: Tensor, size: int) -> tuple[Tensor, Tensor | None]:
        if self.labels is not None:
            return self._of_labels(condition, size)
        if not condition.is_floating_point():
            raise RefusedError(
                f"this source reads a condition of floats; got {condition.dtype}; embed it, or make the source with labels="
            )
        if condition.dtype != self.like.dtype:
            raise RefusedError(
                f"a condition has the dtype of the network, {self.like.dtype}; got {condition.dtype}; convert it with .to()"
            )
        fits = [n for n in (condition.shape, condition.shape[1:]) if self._fits(n)]
        if not fits or (condition.shape != fits[0] and len(condition) != size):
            wanted = ", ".join("set" if n is None else str(n) for n in self.shape)
            remedy = "match the batch" if fits else "make the source with embedding= of this shape"
            raise RefusedError(
                f"a condition is ({wanted}) for all samples, or ({size}, {wanted}); got {tuple(condition.shape)}; {remedy}"
            )
        finite(condition, "a condition")
        if fits[0] == condition.shape:
            return condition.unsqueeze(0), None
        return distinct(condition)

    def _fits(self, shape: Sequence[int]) -> bool:
        if len(shape) != len(self.shape) or any(
            w is not None and w != n for w, n in zip(self.shape, shape, strict=True)
        ):
            return False
        if 0 in shape:
            raise RefusedError(f"a support set holds at least one item; got shape {tuple(shape)}; pass some examples")
        return True

    def _of_labels(self, condition: Tensor, size: int) -> tuple[Tensor, Tensor | None]:
        assert self.labels is not None
        assert self.one_hot is not None
        if condition.is_floating_point() or condition.dtype == torch.bool or condition.shape not in ((), (size,)):
            raise RefusedError(
                f"a label is one integer for all samples or one per sample ({size}); got {condition.dtype} of shape "
                f"{tuple(condition.shape)}; pass class numbers"
            )
        if torch.compiler.is_compiling():
            return self.one_hot, condition.long().expand(size)
        low, high = int(condition.min()), int(condition.max())
        if low < 0 or high >= self.labels:
            raise RefusedError(
                f"a label lies in 0..{self.labels - 1}; got {low if low < 0 else high}; set labels= on the source"
            )
        found, index = condition.long().unique(return_inverse=True)
        return self.one_hot[found], (index if condition.ndim and len(found) > 1 else None)

    def tasks_in(self, state: Mapping[str, Any], prefix: str) -> tuple[int, ...]:
        """The tasks whose embeddings a saved state holds, those of this width.

        Args:
            state: a saved state.
            prefix: what keys of this module begin with.

        """
        if self.reads != "task":
            return ()
        rows, form = rows_in(state, f"{prefix}table."), {"": tuple(n or 0 for n in self.shape)}
        return tuple(int(name) for name, row in rows.items() if ID.fullmatch(name) and fits(row, form))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Grow to the tasks of the state; embeddings that it does not have stay."""
        for task in self.tasks_in(state, prefix):
            if str(task) not in self.table:
                self.table[str(task)] = nn.Parameter(state[f"{prefix}table.{task}"].detach().clone().to(self.like))
        super()._load_from_state_dict(state, prefix, *args)


def finite(codes: Tensor, what: str) -> Tensor:
    """The same embeddings; refuses NaN and infinity, which would spread to every output, and says ``what`` holds them."""
    if _readable(codes) and not bool(torch.isfinite(codes).all()):
        raise RefusedError(
            f"{what} holds finite numbers; got NaN or infinity; check the input, or lower the learning rate"
        )
    return codes


def distinct(codes: Tensor) -> tuple[Tensor, Tensor | None]:
    """Conditions of samples (B, ...) each once, and which one each sample has; None where all have the same.

    A row costs what its generation costs, and a call of its own where it writes weights: samples that share a condition share it.
    Only vectors are compared: support sets are large and seldom twice in a batch. Conditions that a gradient flows to stay apart.
    """
    if codes.ndim == 2 and not codes.requires_grad and _readable(codes):
        found, index = codes.unique(dim=0, return_inverse=True)
        if len(found) < len(codes):
            return found, (index if len(found) > 1 else None)
    return codes, torch.arange(len(codes), device=codes.device)


def _readable(codes: Tensor) -> bool:
    """Whether its values can be read: not inside a graph or a torch.func transform."""
    return not torch.compiler.is_compiling() and not torch._C._functorch.is_functorch_wrapped_tensor(codes)
