"""A modulated network as the training loop sees it, and the modulators that a config describes."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from torch import Tensor

import neuromod
from neuromod import Modulator, OutputRegulariser, RefusedError, Site, Table, Target, calibrate
from neuromod.errors import AbsentError
from neuromod.seeds import derive
from tasks.config.build import call
from tasks.continual.learners.base import Base, sample
from tasks.continual.streams import Stream, Task
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Role

GROUPS: Mapping[str, Callable[[Target], tuple[Site, ...]]] = {"@head": Target.head, "@norms": Target.norms}
SELECTORS = ("weights", "biases", "outputs", "norms", "statistics", "head")


def call_kwargs(model: neuromod.Modulated, task: int | Tensor, condition: int | Tensor | None = None) -> dict[str, Any]:
    """The keyword arguments of a call beside the inputs, as far as a source of the model reads them: ``task`` and
    ``condition``.

    Args:
        model: a modulated network; what none of its sources reads is left out.
        task: one id, or int64 (B,).
        condition: one integer label, or int64 (B,); None: the number of the task.

    """
    values = {"task": task, "condition": task if condition is None else condition}
    return {key: value for key, value in values.items() if key in model.reads}


class Modulated(Base):
    """A `neuromod.Modulated` that is given the task where a source reads it, and whose statistics are measured after training.

    Where a source reads the condition, the task's number is the condition, as an integer label. A `Head` from a `Table` that
    says no width has as many outputs as its task. A regulariser holds each task from its end on.

    Args:
        target: the frozen network.
        stream: the tasks that the modulators are made for; of none, tasks are added one by one (`add`).
        bench: its seed ``source`` draws starts.
        modulators: by name ``{kind, source, sites, identity}``; a source's ``tasks`` and ``labels`` become the number of tasks.
        regulariser: what holds earlier tasks (`neuromod.OutputRegulariser`); none where its ``beta`` is 0.
        compile: compile the call of one row (`torch.compile`).
        vmap: a row of weights per sample in one vmap call, not one call per row.

    """

    role: Role = "modulator"

    def __init__(
        self,
        target: Target,
        stream: Stream,
        bench: Bench,
        *,
        modulators: Mapping[str, Mapping[str, Any] | None],
        regulariser: Mapping[str, Any] | None = None,
        compile: bool = False,
        vmap: bool = False,
    ) -> None:  # reason: the last four are options of a config
        super().__init__()
        seed = bench.seeds["source"]
        self.model = modulated(target, modulators, [task.classes for task in stream], seed=seed, vmap=vmap)
        self.regulariser: OutputRegulariser | None = None
        self.measures = any(not m.kind.learned for m in self.model.named_modulators().values())
        if compile:
            self.model.compile()
        if regulariser is not None and regulariser["beta"]:
            self.regulariser = call(regulariser, "regulariser", self.model, seed=derive(seed, "regulariser"))

    @classmethod
    def of(cls, model: neuromod.Modulated) -> "Modulated":
        """The learner of a network that is made already."""
        learner = cls.__new__(cls)
        Base.__init__(learner)
        learner.model, learner.regulariser = model, None
        learner.measures = any(not m.kind.learned for m in model.named_modulators().values())
        return learner

    def forward(self, x: Tensor, task: int | Tensor, condition: int | Tensor | None = None) -> Tensor:
        """Logits (B, outputs) of inputs (B, ...).

        Args:
            condition: an integer label, or int64 (B,), in the place of the task's own; None: the number of the task.

        """
        logits: Tensor = self.model(x, **call_kwargs(self.model, task, condition))
        return logits

    def add(self, task: int, width: int) -> None:
        """Learn of a task of so many outputs."""
        for part in self.model.readers("task").values():
            part.add(task, **({"width": width} if part.kind.own_width and isinstance(part.source, Table) else {}))

    def before_step(self, step: int, optimizer: Any) -> None:
        """Add the regulariser's gradient."""
        if self.regulariser is not None:
            self.regulariser.backward(optimizer)

    def after_task(self, number: int, task: Task) -> None:
        """Measure the statistics of a task that was trained, and hold it."""
        if self.measures:
            calibrate(self.model, number, sample(task), condition=self.condition(number))
        if self.regulariser is not None:
            self.regulariser.hold(number)

    def condition(self, task: int) -> int | Tensor | None:
        """What a call of a task is conditioned on: its number as a label, where a source reads a condition."""
        found: int | Tensor | None = call_kwargs(self.model, task).get("condition")
        return found

    def costs(self) -> Costs:
        """Parameters and bytes of the first task; what is left is shared."""
        tasks = self.model.tasks()
        readers = [m for m in self.model.readers("task").values() if m.kind.learned]
        live = sum(p.numel() for m in readers for t in m.source.tasks() for p in m.source.own(t).values())
        own = sum(_own(m, tasks[0]) for m in readers) if tasks else 0
        total = sum(p.numel() for p in self.model.parameters())
        return Costs(own, self.model.bytes_per_task(tasks[0]) if tasks else 0, total - live)


def modulated(
    target: Target,
    config: Mapping[str, Mapping[str, Any] | None],
    widths: Sequence[int] = (),
    *,
    tasks: int | None = None,
    seed: int,
    vmap: bool = False,
) -> neuromod.Modulated:
    """A modulated network from named modulators, in their order.

    Args:
        config: by name ``{kind, source, sites, identity, optional}`` (`modulator`); None leaves one out, and so does ``optional``
            where the network has no such site.
        widths: outputs of each task, which a head of its own gets; their number is that of the tasks unless ``tasks``
            says it.
        tasks: how many tasks sources are made for; None: as many as ``widths``.
        seed: of all starts; each modulator derives its own from it by its name.
        vmap: rows of weights of a mixed batch in one vmap call, not one call per row.

    """
    count = len(widths) if tasks is None else tasks
    chosen = {name: c for name, c in config.items() if c is not None and _is_there(target, c)}
    parts = [modulator(target, c, count, derive(seed, "modulator", name)) for name, c in chosen.items()]
    model = neuromod.Modulated(target, *parts, vmap=vmap)
    for part in (p for p in model.readers("task").values() if p.kind.own_width and isinstance(p.source, Table)):
        for task, width in enumerate(widths):
            part.source.forget(task)
            part.add(task, width=width)
    return model


def modulator(target: Target, config: Mapping[str, Any], tasks: int, seed: int) -> Modulator:
    """One modulator as a config describes it.

    ``{kind: {_target_, options}, source: {_target_, options}, sites: {weights: "*"}, identity: false}``: `sites` says
    where; with ``identity`` it starts as a change of nothing; ``dtype`` is that of its numbers. UserError, or the kind's own
    RefusedError, for options that do not fit.

    Args:
        config: these four parts; it is not changed.
        tasks: what a source's ``tasks`` and ``labels`` become where the config has them and they are not null.
        seed: of its start.

    """
    source = dict(config["source"])
    source |= {key: tasks for key in ("tasks", "labels") if source.get(key) is not None}
    chosen, identity = sites(target, config["sites"]), config.get("identity", False)
    dtype = config.get("dtype")
    return Modulator(_instance(config["kind"]), _instance(source), chosen, seed=seed, identity=identity, dtype=dtype)


def sites(target: Target, chosen: Mapping[str, Any]) -> tuple[Site, ...]:
    """Sites from ``{weights: "*", exclude: ...}``: a selector of `Target`, its patterns, and its options.

    A pattern ``type:torch.nn.ReLU`` is a module type, ``@head`` the last linear layer, ``@norms`` all norms, if there are any.
    """
    options = dict(chosen)
    names = [key for key in options if key in SELECTORS]
    if len(names) != 1:
        raise UserError(f"sites need exactly one of {', '.join(SELECTORS)}; got {sorted(options)}; keep one")
    listed = _patterns(target, options.pop(names[0]) or ())
    if "exclude" in options:
        options["exclude"] = _patterns(target, options["exclude"])
    return tuple(getattr(target, names[0])(*listed, **options))


def _patterns(target: Target, listed: Any) -> list[Any]:
    found: list[Any] = []
    for pattern in [listed] if isinstance(listed, str) else listed:
        if pattern in GROUPS:
            found += [site.module for site in _or_none(GROUPS[pattern], target)]
        else:
            found.append(get_class(pattern.removeprefix("type:")) if pattern.startswith("type:") else pattern)
    return found


def _is_there(target: Target, config: Mapping[str, Any]) -> bool:
    return not config.get("optional") or bool(_or_none(partial(sites, chosen=config["sites"]), target))


def _or_none(choose: Callable[[Target], tuple[Site, ...]], target: Target) -> tuple[Site, ...]:
    """Sites; none where the network has nothing of the kind."""
    try:
        return choose(target)
    except AbsentError:
        return ()


def _instance(config: Mapping[str, Any]) -> Any:
    try:
        return instantiate(config)
    except InstantiationException as error:
        # What the kind or the source itself refuses is said in its own line; hydra wraps it in two of its own.
        if isinstance(error.__cause__, RefusedError):
            raise error.__cause__ from None
        raise UserError(
            f"{config['_target_']} can't be made of its options; {error.__cause__}; correct them"
        ) from error


def _own(modulator: Modulator, task: int) -> int:
    """The parameters that a task has, or had while it was learned."""
    if task in modulator.source.tasks():
        return sum(p.numel() for p in modulator.source.own(task).values())
    return sum(math.prod(shape) for site in modulator.sites for shape in modulator.kind.shapes(site).values())
