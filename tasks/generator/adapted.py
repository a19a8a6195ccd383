"""A decoder trained on some digits and frozen, and modulated for each of the others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from neuromod import AdaFM, Affine, Modulated, Modulator, Rows, Table, Target
from tasks.config.build import call, target_of
from tasks.config.fields import Count, Number, Rate, Steps, Weight, fit_fields
from tasks.data.pixels import unit
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.generator import drawing
from tasks.generator.fitting import Decode, Fit, How, on_sphere
from tasks.generator.parts import drawn, frozen, in_parts, measured, noise, picture, statistics, unit_images, whole
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.runs.loop import Number as Logged
from tasks.runs.seeds import derive, generator
from tasks.runs.stages import Stage, Stages

Spec = Mapping[str, Any]
SHOWN, WAY, WAYS = 8, 8, 4  # what the report draws: images of a class, places between two tasks, such ways
CHECKED = 16  # samples that must not move


def _adam() -> Spec:
    return {"_target_": "torch.optim.Adam", "lr": 3e-3}


@dataclass(frozen=True, kw_only=True)
class AdaptedDecoder:
    """A decoder learns the first digits (GLO, Bojanowski et al. 2018), is frozen, and is modulated for each other digit, one a task.

    The headline is the mean squared error of test images of the tasks, their latent vectors found with the decoder as it then stands,
    by the same steps in every arm.

    Args:
        optimizer: of what a task learns.
        base: optimizer of the decoder.
        arm: ``"film"``: gains and shifts of its norms, ``"adafm"``: of its kernels, or ``"whole"``: all weights of a copy.
        known: classes that the decoder is trained on; each of the others is a task.
        latent: numbers of a latent vector.
        width: maps of the decoder (`tasks.networks.decoder`).
        blocks: its convolutions in front of the last.
        base_images: images of the known classes, together.
        base_steps: of training the decoder; 0: it stays random.
        images: of a task, to learn from.
        steps: of learning a task.
        tested: images of a task to measure on.
        test_steps: of finding their latent vectors.
        latent_lr: rate of all latent vectors.
        batch: images of a step.
        loss: of a task, ``"l2"`` or ``"l1"``.
        spread: weight of the term that spreads a task's latent vectors (`fitting.transport`).

    """

    optimizer: Spec
    base: Spec = field(default_factory=_adam)
    arm: Literal["film", "adafm", "whole"] = "film"
    known: Count = 5
    latent: Count = 16
    width: Count = 32
    blocks: Number = 1
    base_images: Count = 2000
    base_steps: Steps = 1000
    images: Count = 100
    steps: Steps = 250
    tested: Count = 100
    test_steps: Steps = 150
    latent_lr: Rate = 0.03
    batch: Count = 50
    loss: Literal["l1", "l2"] = "l2"
    spread: Weight = 0.0

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        target_of(self.optimizer, "optimizer")
        target_of(self.base, "base")

    def fingerprint(self, bench: Bench) -> str:
        """That of the decoder as it was drawn."""
        return bench.once(self._drawn, "drawn").fingerprint()

    def execute(self, bench: Bench) -> Result:
        """Train the decoder, learn the tasks one after the other, test each; goes on from the run's checkpoint."""
        classes = self._tasks(bench)
        stages = [Stage("base", self.base_steps, lambda parts: _Base(self, bench))]
        stages += [Stage(f"task {c}", self.steps, partial(self._task, bench, t)) for t, c in enumerate(classes)]
        stages += [Stage(f"test {c}", self.test_steps, partial(self._test, bench, t)) for t, c in enumerate(classes)]
        parts = Stages(stages).run(bench)
        learned = [parts[f"task {c}"] for c in classes]
        tests = [parts[f"test {c}"] for c in classes]
        model: Modulated = parts["base"].model
        errors = {str(c): test.error() for c, test in zip(classes, tests, strict=True)}
        error, costs = sum(errors.values()) / len(errors), self._costs(model)
        found = {
            "errors": errors,
            # The difference of two is the logarithm of a ratio, which a bar above another row can hold.
            "log_error": math.log(error),
            "start": max(task.start for task in learned),
            "moved": sum(task.moved() for task in learned),
            "share": costs.parameters_per_task / costs.parameters_shared,
        }
        return Result(
            "error",
            error,
            "lower",
            costs,
            {"decoder": found, "decoded": self._pictured(model, classes, tests, bench)},
            role="bracket" if self.arm == "whole" else "modulator",
            trained=f"{self.steps} steps a task",
        )

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Test images as they are decoded, samples, and the way from one task to the next."""
        return drawing.decoded(runs, names)

    def how(self, spec: Spec, **others: Any) -> How:
        """How latent vectors and what a spec's optimizer moves are learned."""
        return How(partial(call, spec, "optimizer"), self.latent, self.latent_lr, self.batch, **others)

    def chosen(self, bench: Bench, part: str, classes: Sequence[int], count: int) -> Tensor:
        """Images of some classes, floats (count, C, H, W), drawn by the run's seed. UserError where there are fewer.

        Args:
            bench: the run.
            part: ``"train"`` or ``"test"``.
            classes: whose images.
            count: how many, of all of them together.

        """
        found = bench.once(unit_images)
        x, y = dict(zip(("train", "test"), (p[1:] for p in found.parts()), strict=True))[part]
        own = torch.isin(y, torch.tensor(classes)).nonzero()[:, 0]
        if len(own) < count:
            raise UserError(f"a task needs {count} {part} images; class {classes[0]} has {len(own)}; pass fewer")
        order = torch.randperm(len(own), generator=generator(bench.seeds["data"], part, *classes))[:count]
        return unit(x[own[order]].to(bench.device))

    def _tasks(self, bench: Bench) -> list[int]:
        classes = len(bench.once(unit_images).classes)
        if self.known >= classes:
            raise UserError(f"known leaves a class to learn; got known={self.known} of {classes}; lower it")
        return list(range(self.known, classes))

    def _drawn(self, bench: Bench) -> Target:
        return drawn(bench, self.latent, self.width, self.blocks)

    def _task(self, bench: Bench, task: int, parts: Mapping[str, Any]) -> "_Task":
        return _Task(self, bench, parts["base"].modulated(), task)

    def _test(self, bench: Bench, task: int, parts: Mapping[str, Any]) -> Fit:
        model: Modulated = parts["base"].modulated().eval()
        x = self.chosen(bench, "test", [self.known + task], self.tested)
        seed = derive(bench.seeds["sampling"], "test", task)
        return Fit(x, partial(model, task=task), [], steps=self.test_steps, how=self.how(_adam()), seed=seed)

    def _costs(self, model: Modulated) -> Costs:
        own = sum(v.numel() for m in model.named_modulators().values() for v in m.source.own(0).values())
        shared = sum(p.numel() for p in model.target.pristine.parameters())
        size, tasks = model.bytes_per_task(0), len(model.tasks())
        return Costs(own, size, shared, size + 4 * shared / tasks)

    def _pictured(self, model: Modulated, classes: Sequence[int], tests: Sequence[Fit], bench: Bench) -> dict[str, Any]:
        z = on_sphere(noise(bench, SHOWN, self.latent, "shown"))
        samples = [in_parts(partial(model, task=t), z) for t in range(len(classes))]
        ways = [_way(model, t, z[:1]) for t in range(min(WAYS, len(classes) - 1))]
        return {
            "classes": [bench.once(unit_images).classes[c] for c in classes],
            "images": [picture(test.x[:SHOWN]) for test in tests],
            "made": [picture(test.made()[:SHOWN]) for test in tests],
            "samples": [picture(x) for x in samples],
            "ways": [picture(x) for x in ways],
        }


class _Base:
    """The decoder while it learns the known classes, and the same one frozen and modulated."""

    def __init__(self, options: AdaptedDecoder, bench: Bench) -> None:
        self.options, self.bench = options, bench
        target = bench.once(options._drawn, "drawn")
        self.whole = Modulated(target, whole(target), statistics(target))
        x = options.chosen(bench, "train", range(options.known), options.base_images)
        seed = derive(bench.seeds["sampling"], "base")
        decode = partial(self.whole, task=0)
        parameters = list(self.whole.parameters())
        self.fit = Fit(x, decode, parameters, steps=options.base_steps, how=options.how(options.base), seed=seed)
        self.model: Modulated | None = None

    def modulated(self) -> Modulated:
        """The frozen decoder under what its tasks learn."""
        if self.model is None:
            z = on_sphere(self.fit.z.detach())
            target = Target(frozen(measured(self.whole, z)), z[:4])
            self.model = Modulated(target, _modulator(self.options.arm, target, self.bench.seeds["source"]))
        return self.model

    def step(self, number: int) -> Mapping[str, Logged]:
        """One step of the decoder and of its latent vectors."""
        return self.fit.step(number)

    def state_dict(self) -> dict[str, Any]:
        """The decoder, its latent vectors, and what its tasks have learned."""
        model = None if self.model is None else self.model.state_dict()
        return {"whole": self.whole.state_dict(), "fit": self.fit.state_dict(), "model": model}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self.whole.load_state_dict(state["whole"])
        self.fit.load_state_dict(state["fit"])
        if state["model"] is not None:
            self.modulated().load_state_dict(state["model"])


class _Task:
    """A task while it is learned, and what the tasks before it put out when it began."""

    def __init__(self, options: AdaptedDecoder, bench: Bench, model: Modulated, task: int) -> None:
        self.model, self.checked = model, on_sphere(noise(bench, CHECKED, options.latent, "checked"))
        self.before = torch.stack(self._old())
        if task not in model.tasks():
            model.add(task)
        self.start = float((in_parts(partial(model, task=task), self.checked) - self.before[0]).abs().max())
        own = [p for m in model.named_modulators().values() for p in m.source.own(task).values()]
        x = options.chosen(bench, "train", [options.known + task], options.images)
        how, seed = (
            options.how(options.optimizer, loss=options.loss, spread=options.spread),
            derive(bench.seeds["sampling"], task),
        )
        self.fit = Fit(x, partial(model, task=task), own, steps=options.steps, how=how, seed=seed)

    def moved(self) -> int:
        """How many of the tasks before it, the known classes counted as one, put out another bit now."""
        now = self._old()[: len(self.before)]
        return sum(not torch.equal(a, b) for a, b in zip(self.before, now, strict=True))

    def _old(self) -> list[Tensor]:
        self.model.eval()
        decoders: list[Decode] = [self.model.target, *(partial(self.model, task=task) for task in self.model.tasks())]
        return [in_parts(decode, self.checked) for decode in decoders]

    def step(self, number: int) -> Mapping[str, Logged]:
        """One step of what the task learns and of its latent vectors."""
        return self.fit.step(number)

    def state_dict(self) -> dict[str, Any]:
        """Latent vectors, and what was seen when it began; what it learns is the model's."""
        return {"fit": self.fit.state_dict(), "before": self.before, "start": self.start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self.fit.load_state_dict(state["fit"])
        self.before, self.start = state["before"].to(self.before.device), state["start"]


def _modulator(arm: str, target: Target, seed: int) -> Modulator:
    """What a task learns; it starts at the decoder itself."""
    if arm == "whole":
        return whole(target, 0)
    if arm == "film":
        return Modulator(Affine(), Table(0), target.norms(), seed=seed)
    biases = [name for name, _ in target.pristine.named_parameters() if name.endswith("bias")]
    return Modulator(AdaFM(), Table(0), target.weights("*", *biases), seed=seed)


def _way(model: Modulated, task: int, z: Tensor) -> Tensor:
    """One latent vector decoded from a task to the next, by convex combinations of their rows."""
    (name,) = model.named_modulators()
    one, other = (model.rows(z, task=t)[name].one() for t in (task, task + 1))
    places = [place / (WAY - 1) for place in range(WAY)]
    rows = [{key: (1 - p) * one[key] + p * other[key] for key in one} for p in places]
    with torch.no_grad():
        return torch.cat([model(z, rows={name: Rows((row,))}) for row in rows])
