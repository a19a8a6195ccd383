"""`OutputRegulariser`: a shared source learns one more task and keeps the rows of those before it."""

import copy
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.arguments import count, flag, instance, number, shown, task_id
from neuromod.errors import RefusedError
from neuromod.modes import evaluating
from neuromod.modulated import Modulated
from neuromod.seeds import generator
from neuromod.sources.base import Row, Rows, Source
from neuromod.sources.context import Context
from neuromod.sources.loading import Loading
from neuromod.target.substitute import call_with


class OutputRegulariser(Loading):
    """``beta / n * sum_t || h(e_t, Theta*) - h(e_t, Theta + dTheta) ||^2`` over the n tasks that are held.

    Von Oswald et al. 2020, eq. 2. ``h(e_t, Theta)`` is the row that a shared source (`Hypernet`, `LowRank`, `Mixture`)
    gives to task t: the raw numbers at all sites of all modulators, whatever their kinds make of them. ``Theta*`` are the
    shared parameters at the last `hold`; ``dTheta`` is the step that the optimiser would take on the loss of the new task
    alone, a constant. The embeddings ``e_t`` of held tasks are fixed. A step is ``loss.backward()``,
    ``regulariser.backward(optimizer)``, ``optimizer.step()``; `hold` follows once the task is learned.

    Args:
        model: every kind in it that learns reads the task; a `Table` forgets nothing and is left out.
        beta: strength, >= 0.
        lookahead: take ``dTheta`` into account; without, it is 0.
        stored: keep the rows of held tasks (n rows of memory) and not ``Theta*``, from which they are computed each step.
        sample: how many held tasks a step draws for an unbiased estimate; None: all of them, in one batched pass.
        seed: of these draws.

    """

    held: Tensor
    draws: Tensor
    sources: dict[str, Source]
    shared: dict[str, list[str]]

    def __init__(
        self,
        model: Modulated,
        *,
        beta: float,
        lookahead: bool = True,
        stored: bool = True,
        sample: int | None = None,
        seed: int,
    ) -> None:
        super().__init__()
        try:
            self.beta = number(beta, "beta", least=0)
        except RefusedError:
            raise RefusedError(
                f"beta must be finite and not negative; got {shown(beta)}; pass 0 to switch the regulariser off"
            ) from None
        try:
            self.sample = None if sample is None else count(sample, "sample", least=1)
        except RefusedError:
            raise RefusedError(
                f"a step samples at least one held task; got sample={shown(sample)}; pass None for all of them"
            ) from None
        self.lookahead, self.stored = flag(lookahead, "lookahead"), flag(stored, "stored")
        self.seed = count(seed, "seed", least=-(2**63))
        instance(model, Modulated, "model")
        # The model owns its sources: they are neither parameters nor state of the regulariser.
        self.__dict__["sources"] = shared_sources(model)
        self.__dict__["shared"] = {name: shared_parameters(source) for name, source in self.sources.items()}
        self.register_buffer("held", torch.empty(0, dtype=torch.long))
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self.rows, self.weights = nn.ModuleDict(), nn.ModuleDict()
        self._kept.update({name: nn.Module() for name in self.sources})

    @torch.no_grad()
    def hold(self, task: int) -> None:
        """From here on the rows of this task and of those held before stay what they now are, and its embedding is fixed."""
        before, task = self._live(), task_id(task)
        known = set.intersection(*(set(source.tasks()) for source in self.sources.values()))
        if task not in known or task in before:
            raise RefusedError(
                f"a live task is held once; got task {task}, held are {before}; hold it after its training"
            )
        self.held = torch.tensor([*before, task], device=self.held.device)
        for name, source in self.sources.items():
            values = _rows(source, self.held.tolist()) if self.stored else self._parameters_of(name)
            for key, value in values.items():
                self._kept[name].register_buffer(key.replace(".", ":"), value.detach().clone())
        self._fix_codes()

    def penalty(self) -> Tensor:
        """The regulariser at the present parameters: 0-d, differentiable with respect to the shared ones.

        With ``sample`` each call is a draw of its own.
        """
        chosen = self._drawn(self._live())
        total = next(iter(next(iter(self.sources.values())).parameters())).new_zeros(())
        if not chosen:
            return total
        for name, source in self.sources.items():
            then = self._targets(name, chosen)
            for key, now in _rows(source, chosen).items():
                total = total + (now - then[key]).square().sum()
        return self.beta / len(chosen) * total

    def backward(self, optimizer: torch.optim.Optimizer) -> float:
        """Add the gradient of the penalty to the shared parameters' and return the penalty; parameters stay as they are.

        ``optimizer`` is the one that will step, after the backward of the task's loss: the look-ahead is its step. Under a
        gradient scaler call ``scaler.unscale_(optimizer)`` first.
        """
        instance(optimizer, torch.optim.Optimizer, "optimizer")
        if self.beta == 0 or not self._live():
            return 0.0
        parameters = [p for name in self.sources for p in self._parameters_of(name).values() if p.requires_grad]
        if not parameters:
            raise RefusedError("the regulariser acts on shared parameters; all are frozen; let one require a gradient")
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if self.lookahead and not stepped & {id(p) for p in parameters}:
            raise RefusedError(
                "the look-ahead is the step of the optimiser of these sources; got one of other parameters; pass theirs"
            )
        with ahead(optimizer) if self.lookahead else nullcontext(), torch.enable_grad():
            penalty = self.penalty()
            gradients = torch.autograd.grad(penalty, parameters, allow_unused=True)
        value = float(penalty.detach())
        if not math.isfinite(value):
            raise RefusedError(f"the penalty must stay finite; got {value}; lower the learning rate or beta")
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return value

    # ---- inside ----------------------------------------------------------------------------------------------------

    @property
    def _kept(self) -> nn.ModuleDict:
        return self.rows if self.stored else self.weights

    def _live(self) -> list[int]:
        """Held tasks in order, without those that were sealed since: rows at rest can't move."""
        known = set.intersection(*(set(source.tasks()) for source in self.sources.values()))
        return [task for task in self.held.tolist() if task in known]

    def _drawn(self, live: list[int]) -> list[int]:
        if self.sample is None or self.sample >= len(live):
            return live
        order = torch.randperm(len(live), generator=generator(self.seed, "held", int(self.draws)))
        self.draws += 1
        return [live[i] for i in order[: self.sample].tolist()]

    def _targets(self, name: str, tasks: list[int]) -> Row:
        kept = dict(self._kept[name].named_buffers())
        if self.stored:
            held = self.held.tolist()
            if tasks == held:
                return kept
            places = torch.tensor([held.index(task) for task in tasks], device=self.held.device)
            return {key: value.index_select(0, places) for key, value in kept.items()}
        weights = {parameter: kept[parameter.replace(".", ":")] for parameter in self.shared[name]}
        with torch.no_grad():
            return _rows(self.sources[name], tasks, weights)

    def _parameters_of(self, name: str) -> dict[str, nn.Parameter]:
        return {parameter: self.sources[name].get_parameter(parameter) for parameter in self.shared[name]}

    def _fix_codes(self) -> None:
        for source in self.sources.values():
            for task in self._live():
                for code in source.own(task).values():
                    code.requires_grad_(False).grad = None

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take on the tasks that the state holds, however many this one has held; a part of a state leaves them."""
        heads = {name: f"{prefix}{'rows' if self.stored else 'weights'}.{name}." for name in self._kept}
        saved = {name: [key for key in state if key.startswith(head)] for name, head in heads.items()}
        held = state.get(f"{prefix}held")
        if isinstance(held, Tensor) and (all(saved.values()) or not held.numel()):
            self.held = torch.empty_like(held, device=self.held.device)
            for name, kept in self._kept.items():
                kept._buffers.clear()
                like = next(self.sources[name].parameters())
                for full in saved[name]:
                    kept.register_buffer(full.removeprefix(heads[name]), like.new_empty(state[full].shape))
        super()._load_from_state_dict(state, prefix, *args)
        self._fix_codes()


@contextmanager
def ahead(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Parameters as the optimiser's next step would leave them; after the ``with`` as they were, bit for bit.

    The optimiser takes that step itself, on copies of its state and options, so it is exact for every optimiser whose
    ``step`` needs no closure; its step hooks run for this step too. A graph made inside must be used inside.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise RefusedError("the look-ahead takes one step without a closure; LBFGS needs one; use lookahead=False")
    state, groups = optimizer.state, optimizer.param_groups
    moving = [p for group in groups for p in group["params"] if p.grad is not None]
    before = [p.detach().clone() for p in moving]
    untouched = {p for group in groups for p in group["params"] if p.grad is None}
    optimizer.state = defaultdict(dict, {p: s if p in untouched else _copied(s) for p, s in state.items()})
    optimizer.param_groups = [{**_copied(g, but="params"), "params": g["params"]} for g in groups]
    try:
        optimizer.step()
        yield
    finally:
        optimizer.state, optimizer.param_groups = state, groups
        with torch.no_grad():
            for parameter, value in zip(moving, before, strict=True):
                parameter.copy_(value)


def shared_sources(model: Modulated) -> dict[str, Source]:
    """The sources whose tasks share parameters, by the name of their modulator. Refuses a model that has none.

    Refused too: a kind that learns from something other than the task, because nothing would hold it.
    """
    learning = {name: m for name, m in model.named_modulators().items() if m.kind.learned}
    for name, modulator in learning.items():
        if modulator.reads != "task":
            raise RefusedError(
                f"the regulariser holds rows of tasks; {name} reads {modulator.reads!r}; make its source read 'task'"
            )
    found = {name: m.source for name, m in learning.items() if shared_parameters(m.source)}
    if not found:
        names = ", ".join(type(m.source).__name__ for m in learning.values())
        raise RefusedError(
            f"the regulariser holds a source that tasks share; got {names}; use a Hypernet or a LowRank, or drop it"
        )
    return found


def shared_parameters(source: Source) -> list[str]:
    """Names of the parameters that belong to no task alone."""
    own = {id(value) for task in source.tasks() for value in source.own(task).values()}
    return [name for name, parameter in source.named_parameters() if id(parameter) not in own]


def _rows(source: Source, tasks: list[int], weights: Mapping[str, Tensor] | None = None) -> Row:
    """One row per task, stacked, of a source at its own parameters or at ``weights``."""
    index = torch.arange(len(tasks))
    context = Context((), len(tasks), tasks=tuple(tasks), index=index)
    body = getattr(source, "body", None)
    # The body in eval mode: dropout would make a penalty of nothing, and statistics of a batch of tasks mean nothing.
    with nullcontext() if body is None else evaluating(body):
        rows: Rows = source(context) if weights is None else call_with(source, weights, context)
    # A source may return rows of its own choice, experts for example, and say in the index which one each task has.
    return rows.stacked() if rows.index is index or rows.index is None else rows.gathered(rows.index)


def _copied(options: Mapping[str, Any], but: str = "") -> dict[str, Any]:
    return {
        key: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for key, value in options.items()
        if key != but
    }
