"""`Modulated`: ``y = f(x ; W + kind(source(context)))``, and W never moves."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from neuromod.batches import run, run_together, run_vmapped
from neuromod.composition import (
    by_name,
    check_shapes,
    gathers,
    refuse_batch_norm,
    refuse_clashes,
    refuse_cycles,
    refuse_twins,
)
from neuromod.errors import RefusedError
from neuromod.modulator import Modulator
from neuromod.sources.base import Row, Rows
from neuromod.sources.context import Context, parse_condition, parse_inputs, parse_tasks
from neuromod.target.skeleton import Skeleton
from neuromod.target.substitute import Edits
from neuromod.target.target import Target

DERIVED = ("_one_row", "_cached")


class Modulated(nn.Module):
    """A target played by modulators: an ordinary module whose parameters are the modulators' alone.

    ``model(x, task=ids, condition=c)``: ``task`` is one id or B of them (int, list or integer tensor), ``condition`` is
    what its source was made for (a vector, a label, a support set), for all samples or one a sample. Samples of one batch
    may have different tasks, in training and in evaluation. Modulators apply in the order given.

    Args:
        target: the frozen network.
        modulators: what plays it.
        vmap: run a row a sample in one `torch.vmap` call instead of splitting the batch (weights are built per sample).

    """

    target: Target
    fingerprint: Tensor
    draws: Tensor
    skeleton: Skeleton
    gathers: Mapping[str, bool]
    _one_row: Callable[[list[Row], tuple[Tensor, ...]], Any]
    _cached: dict[int, Edits]

    def __init__(self, target: Target, *modulators: Modulator, vmap: bool = False) -> None:
        super().__init__()
        self.__dict__["target"] = target
        self.vmap = vmap
        self.modulators = nn.ModuleDict(by_name(modulators))
        self.register_buffer("fingerprint", torch.tensor(list(bytes.fromhex(target.fingerprint())), dtype=torch.uint8))
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        refuse_clashes(self.named_modulators())
        refuse_twins(self.named_modulators())
        refuse_batch_norm(target, self.named_modulators())
        refuse_cycles(target, self.named_modulators())
        self.gathers = gathers(self.named_modulators())
        taps = [s for m in modulators for s in m.sites if s.role == "output"]
        taps += [s for n, m in self.named_modulators().items() if self.gathers[n] for s in m.sites]
        self.skeleton = target.skeleton(taps)
        self._forget()
        self.train(self.training)
        example = tuple(x.movedim(target.batch_axis, 0) for x in target.example)
        context = Context(
            example, len(example[0]), activation=lambda name: self.skeleton.activation(name, target.example)
        )
        for modulator in modulators:
            modulator.bind(target, context)
        check_shapes(self.skeleton, self.named_modulators())

    # ---- calling ---------------------------------------------------------------------------------------------------

    def forward(
        self,
        *inputs: Tensor,
        task: int | Sequence[int] | Tensor | None = None,
        condition: int | Tensor | None = None,
        draw: int | None = None,
        rows: Mapping[str, Rows] | None = None,
    ) -> Any:
        """The modulated network's output.

        ``draw`` keys the noise of stochastic kinds: in training it defaults to a counter, in evaluation to no noise.
        ``rows`` takes the place of the rest: what `rows` returned for these inputs, so that nothing is computed twice.
        """
        axis, out_axes = self.target.batch_axis, self.target.probe.output_axes
        if rows is not None:
            if task is not None or condition is not None or draw is not None:
                raise RefusedError("rows= says all that a call needs; got task, condition or draw beside it; drop them")
            return self._run(self._checked(rows, inputs), inputs)
        context = self.context(inputs, task, condition)
        cached = {} if self.training or draw is not None else self._cached
        if cached and context.tasks is not None and all(t in cached for t in context.tasks):
            kept = Rows(tuple(cached[t] for t in context.tasks), context.index)
            return run(lambda edits, x: self.skeleton(edits[0], x), [(kept, False)], inputs, axis, out_axes)
        return self._run(self._rows(context, draw), inputs)

    def rows(
        self,
        *inputs: Tensor,
        task: int | Sequence[int] | Tensor | None = None,
        condition: int | Tensor | None = None,
        draw: int | None = None,
    ) -> dict[str, Rows]:
        """The raw numbers of such a call by modulator, for penalties and pictures; ``model(x, rows=rows)`` uses them."""
        return self._rows(self.context(inputs, task, condition), draw)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the call of one row (`torch.compile`); choosing rows and splitting the batch stay eager."""
        self.__dict__["_one_row"] = torch.compile(self._one, *args, **options)

    def edits(self, *, task: int | None = None, condition: int | Tensor | None = None) -> Edits:
        """The tensors that one row, of a task or a condition (D,), puts in the place of the target's."""
        example = self.target.example
        found = self._rows(self.context(example, task, condition), None)
        if any(rows.index is not None and rows.index.ndim for rows in found.values()):
            raise RefusedError(
                "edits are those of one row; got a row a sample; pass one task and a condition of shape (D,)"
            )
        return self.compose({name: rows.one() for name, rows in found.items()})

    def compose(self, rows: Mapping[str, Row]) -> Edits:
        """The edits of one row of each named modulator, folded in their order: each sees what those before it wrote."""
        now = dict(self.skeleton.tensors)
        edits: Edits = {}
        for name, modulator in self.named_modulators().items():
            if name in rows:
                new = modulator.edits(rows[name], now)
                now |= new
                edits |= new
        return edits

    def context(
        self,
        inputs: tuple[Tensor, ...],
        task: int | Sequence[int] | Tensor | None = None,
        condition: int | Tensor | None = None,
    ) -> Context:
        """What such a call says, parsed, or refused in one line: what a source reads."""
        axis = self.target.batch_axis
        size, reads = parse_inputs(inputs, len(self.target.example), axis), self.reads
        tasks, index, ids = parse_tasks(task, size, "task" in reads)
        given = parse_condition(condition, "condition" in reads)
        first = tuple(x.movedim(axis, 0) for x in inputs)
        read: dict[str, Tensor] = {}

        def activation(name: str) -> Tensor:
            # One forward serves all modulators that read the same module.
            if name not in read:
                read[name] = self.skeleton.activation(name, inputs)
            return read[name]

        return Context(first, size, tasks, index, ids, given, activation)

    def side_by_side(self, rows: Mapping[str, Row], inputs: tuple[Tensor, ...]) -> Any:
        """Batches (T, B, ...) under rows (T, ...) of every modulator that learns, in one call (for `Together`)."""
        return run_together(self.compose, self.skeleton, rows, inputs)

    # ---- tasks -----------------------------------------------------------------------------------------------------

    def named_modulators(self) -> dict[str, Modulator]:
        """The modulators in order, by the name of their kind in lower case."""
        return dict(self.modulators.items())  # type: ignore[arg-type]

    def readers(self, what: str) -> dict[str, Modulator]:
        """The modulators, by name, whose source reads ``what``: "task", "condition", "input", "activation:NAME"."""
        return {name: m for name, m in self.named_modulators().items() if m.reads == what}

    @property
    def reads(self) -> frozenset[str]:
        """What the sources read: "task", "condition", "input", "activation:NAME"."""
        return frozenset(m.reads for m in self.named_modulators().values())

    def tasks(self) -> tuple[int, ...]:
        """The tasks that every modulator which reads the task knows."""
        known = [set(m.tasks()) for m in self.readers("task").values()]
        return tuple(sorted(set.intersection(*known))) if known else ()

    def add(self, task: int) -> list[nn.Parameter]:
        """Add a task to every modulator that lacks it; returns the new parameters, for ``optimizer.add_param_group``."""
        lacking = [m for m in self.readers("task").values() if task not in m.tasks()]
        if not lacking:
            raise RefusedError(
                f"a task is added once, to modulators that read it; got task {task}; pick an id that is free"
            )
        return [p for m in lacking for p in m.add(task)]

    def seal(self, task: int) -> None:
        """Move a task from live parameters to rest (masks one bit a weight), in every modulator that reads the task."""
        for modulator in self.readers("task").values():
            if task in modulator.source.tasks():
                modulator.seal(task)

    @torch.no_grad()
    def cache(self, *tasks: int) -> int:
        """Keep the effective weights of tasks for evaluation; returns their bytes. Dropped by `train` and by loading."""
        if any(m.reads not in ("task", "nothing") for m in self.named_modulators().values()):
            raise RefusedError(
                "only weights that depend on the task alone can be cached; got another source; drop cache()"
            )
        for task in tasks:
            edits = self.skeleton.fold(self.edits(task=task))
            self._cached[task] = {name: value.detach() for name, value in edits.items()}
        return sum(v.numel() * v.element_size() for t in tasks for v in self._cached[t].values())

    # ---- accounts --------------------------------------------------------------------------------------------------

    def bytes_per_task(self, task: int) -> int:
        """Bytes that must be kept for a task alone: masks at one bit a weight, the rest in its dtype.

        A live task of a shared source needs its code only; the shared part is not counted.
        """
        with torch.no_grad():
            rows = [modulator.stored(task) for modulator in self.readers("task").values()]
        return sum(value.numel() * value.element_size() for row in rows for value in row.values())

    def print_trainable_parameters(self) -> None:
        """Print how many parameters learn, beside the frozen ones."""
        learn = sum(p.numel() for p in self.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in self.skeleton.net.parameters())
        print(f"trainable parameters: {learn:,} | frozen target: {frozen:,} | ratio: {learn / max(frozen, 1):.4f}")

    # ---- nn.Module -------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set the modulators' mode; of the target only BatchNorm under ``norm="batch"`` and requested dropout follow."""
        super().train(mode)
        if "skeleton" in self.__dict__:
            self._cached.clear()
            self.skeleton.train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.skeleton.apply(fn)
        self._forget()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Modulated":
        memo[id(self.target)] = self.target
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        twin._forget()
        return twin.train(self.training)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forget()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state.get(f"{prefix}fingerprint")
        if found is not None and not torch.equal(found.cpu(), self.fingerprint.cpu()):
            theirs, ours = bytes(found.tolist()).hex()[:12], self.target.fingerprint()[:12]
            raise RefusedError(
                f"modulators load only on the target they were made for; theirs is {theirs}, this is {ours}; rebuild it"
            )
        self._cached.clear()
        super()._load_from_state_dict(state, prefix, *args)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Drop what was compiled or cached for tensors that are no longer there."""
        self.__dict__["_one_row"] = self._one
        self.__dict__["_cached"] = {}

    def _one(self, rows: list[Row], inputs: tuple[Tensor, ...]) -> Any:
        return self.skeleton(self._composed(rows), inputs)

    def _composed(self, rows: list[Row]) -> Edits:
        return self.compose(dict(zip(self.gathers, rows, strict=True)))

    def _checked(self, rows: Mapping[str, Rows], inputs: tuple[Tensor, ...]) -> Mapping[str, Rows]:
        size = parse_inputs(inputs, len(self.target.example), self.target.batch_axis)
        if set(rows) != set(self.gathers):
            raise RefusedError(f"rows= holds rows of every modulator; got {sorted(rows)}; pass what rows() returned")
        wrong = [r.index for r in rows.values() if r.index is not None and r.index.ndim and len(r.index) != size]
        if wrong:
            raise RefusedError(
                f"rows= belongs to one batch; it is of {len(wrong[0])} samples, the inputs are {size}; pass rows() of them"
            )
        return rows

    def _run(self, rows: Mapping[str, Rows], inputs: tuple[Tensor, ...]) -> Any:
        axis, out_axes = self.target.batch_axis, self.target.probe.output_axes
        parts = [(rows[name], gathers) for name, gathers in self.gathers.items()]
        if self.vmap:
            return run_vmapped(self._composed, self.skeleton, parts, inputs, axis, out_axes)
        return run(self._one_row, parts, inputs, axis, out_axes)

    def _rows(self, context: Context, draw: int | None) -> dict[str, Rows]:
        modulators = self.named_modulators()
        noisy = [m for m in modulators.values() if m.noisy]
        if draw is not None and not noisy:
            raise RefusedError(f"draw= keys the noise of stochastic kinds; got draw={draw} and no such kind; drop it")
        measured_on_the_fly = self.training and self.target.norm == "batch"
        for modulator in () if measured_on_the_fly else self.readers("task").values():
            for t in context.tasks or ():
                if not modulator.measured(t):
                    raise RefusedError(
                        f"a task's statistics are measured before use; task {t} has none; call calibrate(model, {t}, data)"
                    )
        rows = {name: modulator(context) for name, modulator in modulators.items()}
        if noisy and (self.training or draw is not None):
            number = int(self.draws) if draw is None else draw
            self.draws += draw is None
            rows |= {n: m.noise(rows[n], context, number) for n, m in modulators.items() if m.noisy}
        return rows
