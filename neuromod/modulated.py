"""`Modulated`: ``y = f(x ; W + kind(source(context)))``, and W never moves."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from neuromod.batches import run, run_together, run_vmapped
from neuromod.composition import check_shapes, gathering, named, refuse_batch_norm, refuse_clashes, refuse_cycles
from neuromod.errors import RefusedError, nearest
from neuromod.modulator import Modulator
from neuromod.sources.base import Row, Rows
from neuromod.sources.context import Context, parse_condition, parse_inputs, parse_tasks
from neuromod.target import skeleton
from neuromod.target.substitute import Anatomy, Edits, anatomy, call, fold
from neuromod.target.target import Target

DERIVED = ("_now", "_anatomy", "_one_row", "_cached")


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
    _skeleton: nn.Module
    _now: dict[str, Tensor]
    _anatomy: Anatomy
    _one_row: Callable[[list[Row], tuple[Tensor, ...]], Any]
    _gathers: dict[str, bool]
    _cached: dict[int, Edits]

    def __init__(self, target: Target, *modulators: Modulator, vmap: bool = False) -> None:
        super().__init__()
        self.__dict__["target"] = target
        self.vmap = vmap
        self.modulators = nn.ModuleDict(named(modulators))
        self.register_buffer("fingerprint", torch.tensor(list(bytes.fromhex(target.fingerprint())), dtype=torch.uint8))
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        refuse_clashes(self.named_modulators())
        refuse_batch_norm(target, self.named_modulators())
        refuse_cycles(target, self.named_modulators())
        self._gathers = gathering(self.named_modulators())
        self._build_skeleton()
        axis = target.batch_axis
        example = tuple(x.movedim(axis, 0) for x in target.example)
        context = Context(example, len(example[0]), activation=self._activation)
        for modulator in modulators:
            modulator.bind(target, context)
        check_shapes(self._skeleton, self._now, self.named_modulators())

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
            return run(
                lambda found, x: call(self._skeleton, found[0], x, self._anatomy),
                [(kept, False)],
                inputs,
                axis,
                out_axes,
            )
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
        return self._edits_of([rows.one() for rows in found.values()])

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
                read[name] = self._activation(name, inputs)
            return read[name]

        return Context(first, size, tasks, index, ids, given, activation)

    def tensors(self) -> Mapping[str, Tensor]:
        """The target's own tensors by name, in the dtype and on the device of this model."""
        return self._now

    def layer(self, name: str) -> nn.Module:
        """A module of the network that runs (hooks on it must be removed again)."""
        return self._skeleton.get_submodule(name)

    def substituted(self, edits: Mapping[str, Tensor], *inputs: Tensor) -> Any:
        """One forward with the given tensors in the place of the target's, whatever the modulators say."""
        return call(self._skeleton, edits, inputs, self._anatomy)

    def side_by_side(self, rows: Mapping[str, Row], inputs: tuple[Tensor, ...]) -> Any:
        """Batches (T, B, ...) under rows (T, ...) of every modulator that learns, in one call (for `Together`)."""
        learned = [self.named_modulators()[name] for name in rows]
        return run_together(
            lambda part: self._edits_of(part, learned), self._skeleton, self._anatomy, list(rows.values()), inputs
        )

    # ---- tasks -----------------------------------------------------------------------------------------------------

    def named_modulators(self) -> dict[str, Modulator]:
        """The modulators in order, by the name of their kind in lower case."""
        return dict(self.modulators.items())  # type: ignore[arg-type]

    @property
    def reads(self) -> frozenset[str]:
        """What the sources read: "task", "condition", "input", "activation:NAME"."""
        return frozenset(m.reads for m in self.named_modulators().values())

    def tasks(self) -> tuple[int, ...]:
        """The tasks that every modulator which reads the task knows."""
        known = [set(m.tasks()) for m in self.named_modulators().values() if m.reads == "task"]
        return tuple(sorted(set.intersection(*known))) if known else ()

    def add(self, task: int) -> list[nn.Parameter]:
        """Add a task to every modulator that lacks it; returns the new parameters, for ``optimizer.add_param_group``."""
        lacking = [m for m in self.named_modulators().values() if m.reads == "task" and task not in m.tasks()]
        if not lacking:
            raise RefusedError(
                f"a task is added once, to modulators that read it; got task {task}; pick an id that is free"
            )
        return [p for m in lacking for p in m.add(task)]

    def seal(self, task: int) -> None:
        """Move a task from live parameters to rest (masks one bit a weight), in every modulator that reads the task."""
        for modulator in self.named_modulators().values():
            if modulator.reads == "task" and task in modulator.source.tasks():
                modulator.seal(task)

    @torch.no_grad()
    def cache(self, *tasks: int) -> int:
        """Keep the effective weights of tasks for evaluation; returns their bytes. Dropped by `train` and by loading."""
        if any(m.reads not in ("task", "nothing") for m in self.named_modulators().values()):
            raise RefusedError(
                "only weights that depend on the task alone can be cached; got another source; drop cache()"
            )
        for task in tasks:
            edits = fold(self._skeleton, self.edits(task=task), self._anatomy.folds)
            self._cached[task] = {name: value.detach() for name, value in edits.items()}
        return sum(v.numel() * v.element_size() for t in tasks for v in self._cached[t].values())

    # ---- accounts --------------------------------------------------------------------------------------------------

    def bytes_per_task(self, task: int) -> int:
        """Bytes that must be kept for a task alone: masks at one bit a weight, the rest in its dtype.

        A live task of a shared source needs its code only; the shared part is not counted.
        """
        modulators = [m for m in self.named_modulators().values() if m.reads == "task"]
        with torch.no_grad():
            rows = [modulator.stored(task) for modulator in modulators]
        return sum(value.numel() * value.element_size() for row in rows for value in row.values())

    def print_trainable_parameters(self) -> None:
        """Print how many parameters learn, beside the frozen ones."""
        learn = sum(p.numel() for p in self.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in self._skeleton.parameters())
        print(f"trainable parameters: {learn:,} | frozen target: {frozen:,} | ratio: {learn / max(frozen, 1):.4f}")

    # ---- nn.Module -------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set the modulators' mode; of the target only BatchNorm under ``norm="batch"`` and requested dropout follow."""
        super().train(mode)
        if "_skeleton" in self.__dict__:
            self._cached.clear()
            skeleton.set_mode(self._skeleton, training=mode, norm=self.target.norm, dropout=self.target.dropout)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._skeleton._apply(fn)
        self._refresh()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Modulated":
        memo[id(self.target)] = self.target
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        state = {key: value for key, value in self.__getstate__().items() if key != "_skeleton"}
        twin.__dict__.update(copy.deepcopy(state, memo))
        net = skeleton.build(self._skeleton, norm=self.target.norm, dropout=self.target.dropout)
        twin.__dict__["_skeleton"] = net
        twin._refresh()
        return twin.train(self.training)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._refresh()

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

    def _build_skeleton(self) -> None:
        modulators = self.named_modulators()
        taps = [s for n, m in modulators.items() for s in m.sites if s.role == "output" or self._gathers[n]]
        target = self.target
        self.__dict__["_skeleton"] = skeleton.build(target.pristine, taps, norm=target.norm, dropout=target.dropout)
        self._refresh()
        self.train(self.training)

    def _refresh(self) -> None:
        net = self._skeleton
        tensors = dict(net.named_parameters(remove_duplicate=False)) | dict(net.named_buffers(remove_duplicate=False))
        self.__dict__["_now"] = tensors
        self.__dict__["_anatomy"] = anatomy(net)
        self.__dict__["_one_row"] = self._one
        self.__dict__["_cached"] = {}

    def _one(self, rows: list[Row], inputs: tuple[Tensor, ...]) -> Any:
        return call(self._skeleton, self._edits_of(rows), inputs, self._anatomy)

    def _edits_of(self, rows: list[Row], modulators: Sequence[Modulator] | None = None) -> Edits:
        now = dict(self._now)
        edits: Edits = {}
        for modulator, row in zip(modulators or self.named_modulators().values(), rows, strict=True):
            new = modulator.edits(row, now)
            now |= new
            edits |= new
        return edits

    def _checked(self, rows: Mapping[str, Rows], inputs: tuple[Tensor, ...]) -> Mapping[str, Rows]:
        size = parse_inputs(inputs, len(self.target.example), self.target.batch_axis)
        if set(rows) != set(self._gathers):
            raise RefusedError(f"rows= holds rows of every modulator; got {sorted(rows)}; pass what rows() returned")
        wrong = [r.index for r in rows.values() if r.index is not None and r.index.ndim and len(r.index) != size]
        if wrong:
            raise RefusedError(
                f"rows= belongs to one batch; it is of {len(wrong[0])} samples, the inputs are {size}; pass rows() of them"
            )
        return rows

    def _run(self, rows: Mapping[str, Rows], inputs: tuple[Tensor, ...]) -> Any:
        axis, out_axes = self.target.batch_axis, self.target.probe.output_axes
        parts = [(rows[name], gathers) for name, gathers in self._gathers.items()]
        if self.vmap:
            return run_vmapped(self._edits_of, self._skeleton, self._anatomy, parts, inputs, axis, out_axes)
        return run(self._one_row, parts, inputs, axis, out_axes)

    def _rows(self, context: Context, draw: int | None) -> dict[str, Rows]:
        modulators = self.named_modulators()
        noisy = [m for m in modulators.values() if m.noisy]
        if draw is not None and not noisy:
            raise RefusedError(f"draw= keys the noise of stochastic kinds; got draw={draw} and no such kind; drop it")
        measured_on_the_fly = self.training and self.target.norm == "batch"
        for modulator in () if measured_on_the_fly else modulators.values():
            for t in context.tasks or ():
                if modulator.reads == "task" and not modulator.measured(t):
                    raise RefusedError(
                        f"a task's statistics are measured before use; task {t} has none; call calibrate(model, {t}, data)"
                    )
        rows = {name: modulator(context) for name, modulator in modulators.items()}
        if noisy and (self.training or draw is not None):
            number = int(self.draws) if draw is None else draw
            self.draws += draw is None
            rows |= {n: m.noise(rows[n], context, number) for n, m in modulators.items() if m.noisy}
        return rows

    def _activation(self, name: str, inputs: tuple[Tensor, ...] | None = None) -> Tensor:
        """The output of a module in one unmodulated forward that stops there, batch axis first."""
        calls = self.target.probe.calls
        if name not in calls:
            raise RefusedError(
                f"activation:NAME needs a module that the forward calls; got {name!r}; try {nearest(name, calls)}"
            )
        given = self.target.example if inputs is None else inputs
        return skeleton.activation(self._skeleton, name, given, calls[name][0].batch)
