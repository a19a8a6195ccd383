"""What all experiments on a stream of tasks have in common: their options, the stream, the target, the measures."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar, Literal

import torch

from neuromod import Target
from neuromod.errors import ExampleError
from tasks.config.build import call, check, having, options_of, own, resolve, target_of
from tasks.config.fields import Count, Steps, fit_fields, one_of
from tasks.continual.learners.base import Learner
from tasks.continual.learners.modulated import Modulated
from tasks.continual.measures import matrix
from tasks.continual.streams import AUGMENT, MixedSampler, Stream, held_out
from tasks.continual.streams.augment import Augment
from tasks.data.prepare import images
from tasks.errors import UserError, told
from tasks.experiment import Bench, Costs, Result
from tasks.networks.weights import frozen
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.runs.loop import Optimiser

Spec = Mapping[str, Any]
"""``{_target_: dotted path, options}``, as a config has it."""
LEARNER = (
    "trained_on",
    "groups",
    "before_step",
    "after_step",
    "after_task",
    "costs",
    "role",
    "train",
    "state_dict",
    "load_state_dict",
)


@dataclass(frozen=True)
class Evaluation:
    """``batch``: test images per forward; ``unseen``: measure tasks before they are learned, too (forward transfer)."""

    batch: Count = 1000
    unseen: bool = False

    def __post_init__(self) -> None:
        fit_fields(self, "evaluation")


@dataclass(frozen=True, kw_only=True)
class Continual:
    """Options of every experiment on a stream of tasks.

    Args:
        stream: the tasks (`tasks.continual.streams`).
        target: the frozen network: ``constructor``, ``kwargs``, ``init``, ``density``, ``norm``, or trained ``weights``; ``delta``
            times the size of its weights stands beside them at random, for a `Switch`.
        learner: what is trained (`tasks.continual.learners`).
        optimizer: of `torch.optim` or the user's own, called with the learner's groups.
        steps: of training, per task.
        batch: samples per step.
        outputs: of the network; None: as many as the classes of a task.
        precision: ``float32``, or ``bfloat16`` by autocast.
        augment: None, ``flip_crop``, or the dotted path of a function of (images, generator): of training images, batch by batch.
        channels_last: inputs laid out channels last, for convolutions on a GPU.
        evaluation: how test images are evaluated.
        measures: what is measured at the end, by name, beside accuracy; null leaves one out.

    """

    stream: Spec
    target: Spec
    learner: Spec
    optimizer: Spec
    steps: Steps = 1000
    batch: Count = 128
    outputs: Count | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    augment: str | None = None
    channels_last: bool = False
    evaluation: Evaluation = field(default_factory=Evaluation)
    measures: Mapping[str, Spec | None] = field(default_factory=dict)

    taken: ClassVar[Mapping[str, ModuleType]] = MappingProxyType({"matrix": matrix})
    """Measures that training itself takes, by name."""

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        if self.augment is not None:
            _augmentation(self.augment)
        for name in ("stream", "learner", "optimizer"):
            target_of(getattr(self, name), name)
        for name, spec in self.measures.items():
            if spec is not None:
                _check_measure(name, spec)

    def without_regulariser(self, why: str) -> None:
        """Refuse a regulariser where no task comes after another under one set of parameters."""
        if (self.learner.get("regulariser") or {}).get("beta"):
            raise UserError(f"a regulariser holds tasks that are learned in sequence; {why}; pass regulariser.beta=0")

    # ---- what the options name -----------------------------------------------------------------------------------------

    def fingerprint(self, bench: Bench) -> str:
        """The target's SHA-256."""
        return self.network(bench).fingerprint()

    def tasks(self, bench: Bench) -> Stream:
        """The stream of tasks on the bench's device, test images held out of the training images if asked for."""
        return bench.once(self._stream, "stream")

    def network(self, bench: Bench) -> Target:
        """The frozen network: drawn by the config's recipe, or with trained ``weights`` from the data root."""
        return bench.once(self._target, "target")

    def learn(self, bench: Bench, tasks: int | None = None) -> Any:
        """The learner for the first so many tasks of the stream (None: for all), on the bench's device."""
        stream = self.tasks(bench)
        known = stream if tasks is None else replace(stream, tasks=stream.tasks[:tasks])
        made = call(self.learner, "learner", self.network(bench), known, bench)
        learner: Learner = having(made, self.learner, "learner", LEARNER)
        self._refuse_few_outputs(learner, stream.classes)
        return learner.to(bench.device)

    def learn_by_task(self, bench: Bench, why: str) -> Modulated:
        """The learner of a family that keeps a modulation per task as tasks come; ``why`` begins the refusal of another."""
        learner = self.learn(bench, tasks=0)
        if not isinstance(learner, Modulated):
            raise UserError(f"{why}; got learner={type(learner).__name__}; pass run=sequence")
        if not learner.model.readers("task"):
            raise UserError(f"{why}, one per task; got modulators that read no task; pass run=sequence")
        return learner

    def sampler(self, bench: Bench, learner: Learner | None = None) -> MixedSampler:
        """Training batches, keyed by their step, of what the learner is trained on; None: of the stream as it is."""
        augment = None if self.augment is None else _augmentation(self.augment)
        stream, seed = self.tasks(bench), bench.seeds["data"]
        given = stream if learner is None else learner.trained_on(stream)
        if augment is not None and given is not stream:
            rule = f"{type(learner).__name__} is trained on features that are computed once of each image"
            raise UserError(f"{rule}; got augment={self.augment}; pass augment=null, or learner=modulated")
        return MixedSampler(given, self.batch, seed, augment=augment, channels_last=self.channels_last)

    def optimiser(self, groups: Callable[[], Any], schedule: str = "constant") -> Optimiser:
        """Of what ``groups`` says, made anew for each round."""
        return Optimiser(partial(_optimizer, self.optimizer), groups, schedule)

    def measured(self, learner: Any, bench: Bench, first: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """What each measure of the config finds, by name; one that makes no sense of this learner finds nothing.

        Args:
            learner: trained, in eval mode.
            bench: keeps what was found in ``measured``, for the measures that come later.
            first: what training itself measured, by name.

        """
        bench.measured.clear()
        bench.measured.update(first)
        for name, spec in self.measures.items():
            if spec is None:
                continue
            found = call(spec, f"measures.{name}", learner, self.tasks(bench), bench)
            if found is not None and not isinstance(found, Mapping):
                raise UserError(
                    f"a measure finds a dict, or None; measures.{name} gave a {type(found).__name__}; mend it"
                )
            if found:
                bench.measured[name] = found
        return dict(bench.measured)

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Accuracy as tasks arrive, and task by task."""
        return matrix.draw(runs, names)

    # ---- inside --------------------------------------------------------------------------------------------------------

    def _stream(self, bench: Bench) -> Stream:
        image_set = images(bench)
        if image_set is None:
            raise UserError("a stream of tasks needs an image set; got data.name=null; pass data=mnist")
        made = call(self.stream, "stream", image_set, seed=bench.seeds["data"])
        stream: Stream = having(made, self.stream, "stream", ("tasks", "classes", "shape", "describe"))
        if empty := [task.name for task in stream if not len(task.test)]:
            raise UserError(
                f"a task is measured on test images; {empty[0]} has none; add some, or pass data.divide=true"
            )
        for name, spec in self.measures.items():
            if spec is not None:
                _ask_beside(spec, f"measures.{name}", "check_stream", stream)
        stream = stream if bench.held_out is None else held_out(stream, bench.held_out, bench.seeds["data"])
        return stream.to(bench.device)

    def _target(self, bench: Bench) -> Target:
        stream, options = self.tasks(bench), dict(self.target)
        check("target", options, ("constructor", "kwargs", "init", "density", "norm", "weights", "delta"))
        constructor = resolve(options["constructor"], "target.constructor")
        given = {"shape": list(stream.shape), "outputs": self.outputs or stream.classes}
        if known := options_of(constructor):
            check("target.kwargs", options["kwargs"], [name for name in known if name not in given])
        options["kwargs"] = {**options["kwargs"], **given}
        example = stream[0].view((stream[0].train.images if len(stream[0].train) else stream[0].test.images)[:2]).cpu()
        rule = f"a target is f(shape, outputs, **target.kwargs), a network for images {tuple(stream.shape)}"
        with told(
            f"{rule}; {options['constructor']} is not", "correct target or target.kwargs, or wrap it in a function"
        ):
            try:
                return frozen(options, example, root=bench.data["root"], seed=bench.seeds["target"])
            except ExampleError as error:
                # What the network itself says of these images is told with the name that it has on the command line.
                raise (error.__cause__ or error) from None

    def _refuse_few_outputs(self, learner: Any, classes: int) -> None:
        """Refuse a network that has no output for some labels; a head that each task has for itself has as many as it needs."""
        own = isinstance(learner, Modulated) and any(
            m.kind.own_width for m in learner.model.named_modulators().values()
        )
        outputs = getattr(learner, "outputs", self.outputs)
        if outputs is not None and outputs < classes and not own:
            rule = "a network has an output for every class of a task"
            raise UserError(
                f"{rule}; got outputs={outputs} for {classes} classes; pass outputs=null, or {classes} or more"
            )


def _augmentation(name: str) -> Augment:
    """An augmentation by its name, or by the dotted path of a user's own."""
    if "." in name:
        return own(name, "augment")
    one_of("augment", name, AUGMENT)
    return AUGMENT[name]


def _check_measure(name: str, spec: Spec) -> None:
    """Refuse what a measure would refuse, before the training at whose end it is taken."""
    where, measure = f"measures.{name}", target_of(spec, f"measures.{name}")
    options = {key: value for key, value in spec.items() if key != "_target_"}
    if known := options_of(measure):
        check(where, options, list(known)[3:])
    try:
        inspect.signature(measure).bind(None, None, None, **options)
    except (TypeError, ValueError) as error:
        rule = f"{where} is called as measure(learner, stream, bench, **options)"
        raise UserError(f"{rule}; got {spec['_target_']}: {error}; correct it") from error
    _ask_beside(spec, where, "check_options")


def _ask_beside(spec: Spec, where: str, name: str, *args: Any) -> None:
    """Call, with the options of a measure, the function of this name that its file may hold: it refuses them."""
    asked = getattr(sys.modules.get(target_of(spec, where).__module__), name, None)
    if asked is not None:
        asked(*args, **{key: value for key, value in spec.items() if key != "_target_"})


def _optimizer(spec: Spec, groups: Iterable[Any]) -> torch.optim.Optimizer:
    made = having(
        call(spec, "optimizer", groups), spec, "optimizer", ("step", "zero_grad", "param_groups", "state_dict")
    )
    optimizer: torch.optim.Optimizer = made
    needed = [p.name for p in (options_of(optimizer.step) or {}).values() if p.default is p.empty]
    if needed:
        raise UserError(f"an optimizer steps without arguments; {spec['_target_']} needs {needed[0]}; take another")
    return optimizer


def result(
    learner: Any,
    stream: Stream,
    accuracy: float,
    trained: str,
    measures: Mapping[str, Mapping[str, Any]],
) -> Result:
    """What a run on a stream says: the headline is mean accuracy over its tasks.

    Args:
        learner: says its costs and its role.
        stream: what it was trained on.
        accuracy: that mean, in [0, 1].
        trained: in words, what was trained and how (`how`).
        measures: by name, what was measured.

    """
    own: Costs = learner.costs()
    costs = replace(own, bytes_with_shared=own.bytes_per_task + 4 * own.parameters_shared / len(stream))
    return Result("accuracy", accuracy, "higher", costs, measures, learner.role, trained, stream.describe())


def how(learner: Any, order: Literal["jointly", "in sequence"]) -> str:
    """In words how a learner was trained."""
    costs: Costs = learner.costs()
    if not costs.parameters_per_task:
        return order if costs.parameters_shared else "nothing"
    return order if costs.parameters_shared else "per task"
