"""What all experiments on a stream of tasks have in common: their options, the stream, the target, the measures."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch

from neuromod import Recipe, Target
from tasks.config.build import at_least, call, check, one_of, options_of, resolve, target_of
from tasks.continual.learners.base import Learner
from tasks.continual.measures import matrix
from tasks.continual.streams import AUGMENT, MixedSampler, Stream, held_out
from tasks.data.prepare import images
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.networks.weights import with_weights
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.runs.loop import Optimiser

Spec = Mapping[str, Any]
"""``{_target_: dotted path, options}``, as a config has it."""
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Evaluation:
    """``batch``: test images per forward; ``unseen``: measure tasks before they are learned, too (forward transfer)."""

    batch: int = 1000
    unseen: bool = False

    def __post_init__(self) -> None:
        at_least(1, **{"evaluation.batch": self.batch})


@dataclass(frozen=True, kw_only=True)
class Continual:
    """Options of every experiment on a stream of tasks.

    Args:
        stream: the tasks (`tasks.continual.streams`).
        target: the frozen network: ``constructor``, ``kwargs``, ``init``, ``density``, ``norm``, or trained ``weights``.
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
    steps: int = 1000
    batch: int = 128
    outputs: int | None = None
    precision: str = "float32"
    augment: str | None = None
    channels_last: bool = False
    evaluation: Evaluation = field(default_factory=Evaluation)
    measures: Mapping[str, Spec | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least(0, steps=self.steps)
        at_least(1, batch=self.batch, outputs=self.outputs)
        one_of("precision", self.precision, PRECISIONS)
        if self.augment is not None and "." not in self.augment:
            one_of("augment", self.augment, AUGMENT)
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
        learner: Learner = call(self.learner, "learner", self.network(bench), known, bench)
        return learner.to(bench.device)

    def sampler(self, bench: Bench) -> MixedSampler:
        """Training batches, keyed by their step."""
        name = self.augment
        augment = None if name is None else AUGMENT[name] if name in AUGMENT else resolve(name, "augment")
        stream, seed = self.tasks(bench), bench.seeds["data"]
        return MixedSampler(stream, self.batch, seed, augment=augment, channels_last=self.channels_last)

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
        stream: Stream = call(self.stream, "stream", image_set, seed=bench.seeds["data"])
        if empty := [task.name for task in stream if not len(task.test)]:
            raise UserError(
                f"a task is measured on test images; {empty[0]} has none; add some, or pass data.divide=true"
            )
        stream = stream if bench.held_out is None else held_out(stream, bench.held_out, bench.seeds["data"])
        return stream.to(bench.device)

    def _target(self, bench: Bench) -> Target:
        stream, options = self.tasks(bench), dict(self.target)
        check("target", options, ("constructor", "kwargs", "init", "density", "norm", "weights"))
        norm, weights = options.pop("norm"), options.pop("weights", None)
        constructor = resolve(options["constructor"], "target.constructor")
        given = {"shape": list(stream.shape), "outputs": self.outputs or stream.classes}
        if known := options_of(constructor):
            check("target.kwargs", options["kwargs"], [name for name in known if name not in given])
        options["kwargs"] = {**options["kwargs"], **given}
        example = stream[0].view((stream[0].train.images if len(stream[0].train) else stream[0].test.images)[:2]).cpu()
        if weights is not None:
            net = with_weights(options["constructor"], options["kwargs"], weights, bench.data["root"])
            return Target(net, example, norm=norm)
        return Target.from_recipe(Recipe(**options, seed=bench.seeds["target"]), example, norm=norm)


def _check_measure(name: str, spec: Spec) -> None:
    """Refuse what a measure would refuse, before the training at whose end it is taken."""
    where, measure = f"measures.{name}", target_of(spec, f"measures.{name}")
    options = {key: value for key, value in spec.items() if key != "_target_"}
    if known := options_of(measure):
        check(where, options, list(known)[3:])
    own = getattr(sys.modules[measure.__module__], "check_options", None)
    if own is not None:
        own(**options)


def _optimizer(spec: Spec, groups: Iterable[Any]) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = call(spec, "optimizer", groups)
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
