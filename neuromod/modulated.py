"""`Modulated`: ``y = f(x ; W + kind(source(context)))``, and W never moves."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from neuromod.arguments import count, flag, instance, task_id
from neuromod.batches import run, run_vmapped
from neuromod.composition import (
    Composition,
    check_shapes,
    folded,
    gathers,
    head_width,
    refuse_batch_norm,
    refuse_clashes,
    refuse_cycles,
    refuse_meeting,
    refuse_twins,
    refuse_vmap,
)
from neuromod.errors import RefusedError
from neuromod.modulator import Modulator
from neuromod.refusals import (
    check_rows,
    composing,
    refuse_compiled,
    refuse_keywords,
    refuse_other_target,
    refuse_recomputed,
    refuse_unmeasured,
    refusing_lone,
)
from neuromod.sources.base import Row, Rows
from neuromod.sources.context import Context, parse, parse_inputs
from neuromod.target.skeleton import Skeleton
from neuromod.target.substitute import Edits
from neuromod.target.target import Target

DERIVED = ("_one_row", "_cached")


class Modulated(Composition):
    """A target and what modulates it: an ordinary module whose parameters are the modulators' alone.

    ``model(x, task=ids, condition=c)``: ``task`` is one id or B of them (int, list or integer tensor), ``condition`` is
    what its source was made for (a vector, a label, a support set), for all samples or one for each. Samples of one batch
    may have different tasks, in training and in evaluation. Modulators apply in the order given.

    Args:
        target: the frozen network.
        modulators: what modulates it, in this order.
        vmap: run a row per sample in one `torch.vmap` call instead of splitting the batch (weights are built per sample).

    """

    target: Target
    fingerprint: Tensor
    draws: Tensor
    skeleton: Skeleton
    gathers: Mapping[str, bool]
    _one_row: Callable[[list[Row], tuple[Tensor, ...]], Any]
    _cached: dict[int, Edits]

    def __init__(self, target: Target, *modulators: Modulator, vmap: bool = False) -> None:
        instance(target, Target, "the target of a model, its first argument,")
        super().__init__(modulators)
        self.__dict__["target"] = target
        self.vmap = vmap
        self.register_buffer("fingerprint", torch.tensor(list(bytes.fromhex(target.fingerprint())), dtype=torch.uint8))
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        refuse_clashes(target, self.named_modulators())
        refuse_twins(self.named_modulators())
        refuse_batch_norm(target, self.named_modulators())
        refuse_cycles(target, self.named_modulators())
        refuse_meeting(target, self.named_modulators())
        refuse_vmap(target, flag(vmap, "vmap"))
        self.gathers = gathers(target, self.named_modulators())
        taps = [s for m in modulators for s in m.sites if s.role == "output"]
        taps += [s for n, m in self.named_modulators().items() if self.gathers[n] for s in m.sites]
        self.skeleton = target.skeleton(taps)
        self._forget()
        self.train(self.training)
        pairs = zip(target.example, target.axes, strict=True)
        example = tuple(x.movedim(axis, 0) for x, axis in pairs if axis is not None)
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
        **others: Any,
    ) -> Any:
        """The network's output, each sample modulated as its task, condition or input says.

        Refused: what nobody reads, and what is missing (an unknown task, 15 ids for 16 samples).

        Args:
            inputs: what the network takes, the batch on the target's axis.
            task: one id for all samples, or B of them (a list or an integer tensor).
            condition: what its source was made for (a vector, a label, a support set), for all samples or a leading axis of B.
            draw: the number that keys the noise of stochastic kinds: in training a counter by default, in evaluation none.
            rows: what `rows` returned for these very inputs, in the place of task, condition and draw: a source is then not
                run twice where a penalty needs the raw numbers as well (``loss(model(x, rows=r)) + penalty(r)``).
            others: refused: the network takes its inputs by position.

        """
        refuse_keywords(others, rows, (task, condition, draw))
        if rows is not None:
            check_rows(rows, self.gathers, parse_inputs(inputs, self.target.axes))
            return self._run(rows, inputs)
        context = self.context(inputs, task, condition)
        cached = {} if self.training or draw is not None else self._cached
        if cached and context.tasks is not None and all(t in cached for t in context.tasks):
            kept = Rows(tuple(cached[t] for t in context.tasks), context.index)
            return self._split(lambda edits, x: self.skeleton.put(edits[0], x), [(kept, False)], inputs)
        return self._run(self._rows(context, draw), inputs)

    def rows(
        self,
        *inputs: Tensor,
        task: int | Sequence[int] | Tensor | None = None,
        condition: int | Tensor | None = None,
        draw: int | None = None,
    ) -> dict[str, Rows]:
        """The raw numbers of a call by modulator, for penalties and pictures; ``model(x, rows=rows)`` then uses them.

        Args:
            inputs: as of a call.
            task: as of a call.
            condition: as of a call.
            draw: as of a call.

        """
        return self._rows(self.context(inputs, task, condition), draw)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the call of one row (`torch.compile`); choosing rows and splitting the batch stay eager.

        Refused: a network that keeps something from call to call, or is called again in the backward.
        """
        refuse_compiled(self.target)
        self.__dict__["_one_row"] = torch.compile(self._one, *args, **options)

    def edits(self, *, task: int | None = None, condition: int | Tensor | None = None) -> Edits:
        """The tensors that one row, of a task or a condition (D,), puts in the place of the target's."""
        example = self.target.example
        found = self._rows(self.context(example, task, condition), None)
        if any(rows.index is not None and rows.index.ndim for rows in found.values()):
            raise RefusedError(
                "edits are those of one row; got a row per sample; pass one task and a condition of shape (D,)"
            )
        return self.compose({name: rows.one() for name, rows in found.items()})

    def compose(self, rows: Mapping[str, Row]) -> Edits:
        """The edits of one row of each named modulator, folded in their order: each sees what those before it wrote."""
        with composing(rows, self.named_modulators()):
            return folded(rows, self.named_modulators(), self.skeleton)

    def context(
        self,
        inputs: tuple[Tensor, ...],
        task: int | Sequence[int] | Tensor | None = None,
        condition: int | Tensor | None = None,
    ) -> Context:
        """What a source reads of such a call, parsed; an activation is computed when it is first asked for.

        Args:
            inputs: as of a call, in a tuple.
            task: as of a call.
            condition: as of a call.

        """
        context = parse(inputs, task, condition, reads=self.reads, axes=self.target.axes)
        outputs: dict[str, Tensor] = {}

        def activation(name: str) -> Tensor:
            # One forward serves all modulators that read the same module.
            if name not in outputs:
                outputs[name] = self.skeleton.activation(name, inputs)
            return outputs[name]

        return replace(context, activation=activation)

    @torch.no_grad()
    def cache(self, *tasks: int) -> int:
        """Keep the effective weights of tasks for evaluation; returns their bytes. Dropped by `train` and by loading."""
        if any(m.reads not in ("task", "nothing") for m in self.named_modulators().values()):
            raise RefusedError(
                "only weights that depend on the task alone can be cached; got another source; drop cache()"
            )
        ids = [task_id(task) for task in tasks]
        for task in ids:
            edits = self.skeleton.fold(self.edits(task=task))
            self._cached[task] = {name: value.detach() for name, value in edits.items()}
        return sum(v.numel() * v.element_size() for t in ids for v in self._cached[t].values())

    def print_trainable_parameters(self) -> None:
        """Print how many parameters learn, beside the frozen ones."""
        learn = sum(p.numel() for p in self.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in self.skeleton.net.parameters())
        print(f"trainable parameters: {learn:,} | frozen target: {frozen:,} | ratio: {learn / max(frozen, 1):.4f}")

    # ---- nn.Module -------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set the modulators' mode; of the target only BatchNorm under ``norm="batch"`` and requested dropout follow."""
        super().train(flag(mode, "mode"))
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
        refuse_other_target(state.get(f"{prefix}fingerprint"), self.fingerprint)
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
        return folded(dict(zip(self.gathers, rows, strict=True)), self.named_modulators(), self.skeleton)

    def _run(self, rows: Mapping[str, Rows], inputs: tuple[Tensor, ...]) -> Any:
        parts = [(rows[name], gathers) for name, gathers in self.gathers.items()]
        if self.vmap:
            outputs = self.target.probe.outputs
            return run_vmapped(self._composed, self.skeleton, parts, inputs, self.target.axes, outputs)
        return self._split(self._one_row, parts, inputs)

    def _split(self, one: Any, parts: list[tuple[Any, bool]], inputs: tuple[Tensor, ...]) -> Any:
        width, measures = head_width(self.named_modulators()), self.training and self.target.norm == "batch"
        with refusing_lone(measures=measures):
            return run(one, parts, inputs, self.target.axes, self.target.probe.outputs, width=width, again=not measures)

    def _rows(self, context: Context, draw: int | None) -> dict[str, Rows]:
        modulators = self.named_modulators()
        noisy = [m for m in modulators.values() if m.noisy]
        draw = None if draw is None else count(draw, "draw=")
        if draw is not None and not noisy:
            raise RefusedError(f"draw= keys the noise of stochastic kinds; got draw={draw} and no such kind; drop it")
        if not (self.training and self.target.norm == "batch"):  # there the batch itself is measured
            refuse_unmeasured(self.readers("task"), context)
        rows = {name: modulator(context) for name, modulator in modulators.items()}
        if noisy and (self.training or draw is not None):
            refuse_recomputed(draw)
            number = int(self.draws) if draw is None else draw
            self.draws += draw is None
            rows |= {n: m.noise(rows[n], context, number) for n, m in modulators.items() if m.noisy}
        return rows
