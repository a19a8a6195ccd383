"""What sources have in common whose parameters serve all tasks: embeddings, a body, and an offset that rows start at."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypedDict

from torch import Tensor, nn

from neuromod.arguments import flag, shown
from neuromod.errors import RefusedError, nearest
from neuromod.sources.base import Row, Source, Starts, name_of
from neuromod.sources.bodies import SetEncoder, body_for, features_of, freeze, widths_of
from neuromod.sources.context import Context
from neuromod.sources.embeddings import Embeddings, Shape

Making = nn.Module | Callable[[], nn.Module]
"""A body, or what makes one when it is called: a function or a class of yours, which a store finds again by its name."""


class Options(TypedDict, total=False):
    """What `Hypernet`, `LowRank` and `Mixture` take beside their own: what is embedded, and the body behind it."""

    body: Making | None
    """Any module (rows, ...) to (rows, features), or a function that makes one; None: hidden layers of ReLUs."""
    hidden: int | Sequence[int]
    """Width of the default body's layer, or the widths of several; 64 by default."""
    embedding: int | Shape
    """Width of a task's embedding, or width or shape of a condition; 16 by default."""
    labels: int | None
    """The condition is an integer in [0, labels), one-hot."""
    learn_body: bool
    """False keeps the body as it was drawn or given; True by default."""
    code: int | Shape | None
    """The former name of ``embedding``, under which configs and stored files have it."""


def embeddings(
    reads: str, tasks: int | Iterable[int], options: Options, *, width: int | None = None, zero: bool = False
) -> Embeddings:
    """What a source with these options is conditioned on.

    Args:
        reads: as of the source.
        tasks: a count or ids to start with, where it reads the task.
        options: its keywords; an unknown one is refused.
        width: of an embedding that is learned, where the source and not the user decides it.
        zero: learned embeddings start at zero instead of N(0, 1).

    """
    unknown = [name for name in options if name not in Options.__annotations__]
    if unknown:
        raise TypeError(
            f"a source takes {', '.join(Options.__annotations__)}; got {unknown[0]!r}; try {nearest(unknown[0], Options.__annotations__)}"
        )
    former = options.get("code")
    shape = width or (options.get("embedding", 16) if former is None else former)
    return Embeddings(reads, tasks, shape, labels=options.get("labels"), zero=zero)


class Shared(Source):
    """A source that turns embeddings into rows with parameters that all rows share; a task's own part is its embedding."""

    body_name: str | None
    """Under which name `Store` finds a body of the user's own again: that of its function, or of its class."""

    def __init__(self, codes: Embeddings, options: "Options") -> None:
        super().__init__()
        # Saved states have the embeddings under this name: "source.codes.table.TASK".
        self.codes, self.reads = codes, codes.reads
        widths = widths_of(options.get("hidden", 64))
        # A store has one width as a number.
        self.hidden: int | Sequence[int] = widths[0] if isinstance(options.get("hidden", 64), int) else widths
        self.learn_body = flag(options.get("learn_body", True), "learn_body")
        body = options.get("body")
        if body is not None and not callable(body):
            raise RefusedError(f"body= is a module, or makes one; got {shown(body)}; pass a module, or a function")
        made = body if isinstance(body, nn.Module) or body is None else body()
        if made is not None and not isinstance(made, nn.Module):
            raise RefusedError(
                f"body= is a module, or makes one; {body!r} made a {type(made).__name__}; return the module"
            )
        self.body_name = None if body is None else getattr(body, "__name__", type(body).__name__)
        # A body that will be fixed is a copy: what the user gave stays as it is.
        self.body = made if self.learn_body else copy.deepcopy(made)
        self.offset = nn.Module()

    @property
    def own_body(self) -> nn.Module | None:
        """The body as it was given or made, without what averages it over the items of a support set."""
        return self.body.body if isinstance(self.body, SetEncoder) and self.codes.is_set else self.body

    def arguments(self) -> dict[str, Any]:
        of_torch = (
            type(self.own_body).__module__.startswith("torch.nn.") and self.body_name == type(self.own_body).__name__
        )
        if self.body_name is not None and (of_torch or not self.body_name.isidentifier()):
            raise RefusedError(
                f"a stored body is made again by a function or class of yours, by its name; got {self.body_name!r}; pass "
                "body=my_body, a function that returns it, or keep it with state_dict()"
            )
        hidden = self.hidden if isinstance(self.hidden, int) else list(self.hidden)
        codes = {"reads": self.reads, "tasks": [], "code": list(self.codes.shape), "labels": self.codes.labels}
        body = {} if self.body_name is None else {"body": self.body_name}
        return codes | {"hidden": hidden, "learn_body": self.learn_body} | body

    def add(self, task: int, starts: Starts, options: Mapping[str, int]) -> list[nn.Parameter]:
        return self.codes.add(task, starts, options)

    def tasks(self) -> tuple[int, ...]:
        return self.codes.tasks()

    def own(self, task: int) -> Row:
        return {"code": self.codes.table[name_of(task, self.codes.table)]}

    def forget(self, task: int) -> None:
        del self.codes.table[name_of(task, self.codes.table)]

    def tasks_in(self, state: Mapping[str, Any], prefix: str) -> tuple[int, ...]:
        return self.codes.tasks_in(state, f"{prefix}codes.")

    def names(self, context: Context) -> Sequence[object]:
        if self.codes.labels is not None and context.condition is not None:
            return tuple(context.condition.reshape(-1).unique().tolist())
        return super().names(context)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a fixed body stays in eval mode, for its statistics and dropout are fixed too."""
        super().train(mode)
        if not self.learn_body and self.body is not None:
            self.body.eval()
        return self

    def features(self, context: Context) -> tuple[Tensor, Tensor | None]:
        """The body's features (rows, features) and the index of the row that each sample uses."""
        codes, index = self.codes(context)
        assert self.body is not None
        return self.body(codes), index

    def bind_body(self, starts: Starts, codes: Tensor) -> int:
        """Build the default body, or take the given one; returns the width of its features."""
        self.body = body_for(self.body, self.hidden, self.codes, codes, starts)
        if not self.learn_body:
            freeze(self.body)
        return features_of(self.body, codes)


def bind_offset(holder: nn.Module, starts: Starts, keys: Iterable[str]) -> None:
    """Keep the start row as buffers; the target's own values are not stored with the state.

    Args:
        holder: an empty module that gets a buffer for each key.
        starts: gives the row.
        keys: ``"site/part"`` of the numbers that have an offset.

    """
    row = starts.row("offset")
    for key in keys:
        holder.register_buffer(key, row[key].detach(), persistent=not starts.own)


def spread_of(start: Tensor) -> float:
    """The standard deviation of a start, 0 where it is constant."""
    # Asked of the range, for the deviation of equal numbers rounds to 1e-8 and not to 0.
    return float(start.float().std()) if start.numel() > 1 and bool(start.min() < start.max()) else 0.0
