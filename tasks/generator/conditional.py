"""A conditional generator is a modulated generator: all of it trained, trained before and frozen, or random and frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neuromod import Affine, Hypernet, Modulated, Modulator, Target
from tasks.config.build import target_of
from tasks.config.fields import Count, Number, Rate, Steps, fit_fields
from tasks.data.pixels import unit
from tasks.experiment import Bench, Result
from tasks.generator import drawing
from tasks.generator.adversaries import Adversaries
from tasks.generator.judge import Judge, frechet
from tasks.generator.parts import drawn, frozen, in_parts, measured, noise, picture, statistics, unit_images, whole
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.runs.stages import Stage, Stages

Spec = Mapping[str, Any]
SHOWN, WAY, WAYS = 8, 8, 4  # what the report draws: images of a class, places between two conditions, such ways


@dataclass(frozen=True, kw_only=True)
class ConditionalGan:
    """A generator is told class and noise at its norms, ``(1 + A c) h + B c``, or a small network in the place of A and B.

    The headline is the agreement: the share of samples in which an independent classifier sees the class that was asked for.

    Args:
        generator: its optimizer.
        discriminator: its optimizer.
        told_lr: rate of what tells class and noise, which starts at the generator as it is: `1 + A c` with A at zero.
        arm: ``"whole"``: all of the generator is trained with what modulates it; ``"frozen"``: it is trained without classes
            first, then frozen; ``"random"``: frozen as it was drawn.
        latent: numbers of a latent vector.
        width: maps of the generator (`tasks.networks.decoder`).
        blocks: its convolutions in front of the last.
        hidden: units of the network from class and noise to gains and shifts; 0: a linear one.
        critic: maps of the discriminator's first layer.
        batch: images of a step.
        steps: of both players, in each stage of their own.
        judge_steps: of training the classifier.
        samples: on which is measured.

    """

    generator: Spec
    discriminator: Spec
    told_lr: Rate = 2e-3
    arm: Literal["whole", "frozen", "random"] = "whole"
    latent: Count = 32
    width: Count = 64
    blocks: Number = 1
    hidden: Number = 0
    critic: Count = 64
    batch: Count = 64
    steps: Steps = 4000
    judge_steps: Steps = 600
    samples: Count = 2000

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        target_of(self.generator, "generator")
        target_of(self.discriminator, "discriminator")

    def fingerprint(self, bench: Bench) -> str:
        """That of the generator as it was drawn."""
        return bench.once(self._drawn, "drawn").fingerprint()

    def execute(self, bench: Bench) -> Result:
        """Train the judge, the generator, what modulates it; measure; goes on from the run's checkpoint."""
        found, first = bench.once(unit_images), self.arm == "frozen"
        stages = [
            Stage("judge", self.judge_steps, lambda parts: Judge(found, bench, self.judge_steps)),
            *([Stage("base", self.steps, lambda parts: self._plain(bench))] if first else []),
            Stage("arm", self.steps, lambda parts: self._told(self._target(bench, parts), bench)),
        ]
        parts = Stages(stages).run(bench)
        made = self._measured(parts["arm"], bench)
        found_out = self._agreement(made, parts["judge"], bench)
        return Result(
            "agreement",
            found_out["agreement"],
            "higher",
            measures={
                "generator": found_out | self._counts(parts["arm"].model),
                "samples": self._pictured(made, bench),
            },
            role="bracket" if self.arm == "whole" else "modulator",
            trained=f"{self.arm}, {self.steps} steps",
        )

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Samples of each class, and the ways between classes and between styles."""
        return drawing.conditional(runs, names)

    def condition(self, z: Tensor, y: Tensor, classes: int) -> Tensor:
        """Class and noise in one vector, (B, classes + latent).

        Args:
            z: noise (B, latent).
            y: classes (B,).
            classes: how many there are.

        """
        return torch.cat([one_hot(y, classes).to(z.dtype), z], 1)

    def _drawn(self, bench: Bench) -> Target:
        return drawn(bench, self.latent, self.width, self.blocks)

    def _plain(self, bench: Bench) -> Adversaries:
        """The generator alone: nobody is told a class."""
        target = bench.once(self._drawn, "drawn")
        model = Modulated(target, whole(target), statistics(target))
        found = bench.once(unit_images)
        return Adversaries("base", model, lambda z, y: model(z, task=0), found, self, told=False, bench=bench)

    def _target(self, bench: Bench, parts: Mapping[str, Any]) -> Target:
        """What is modulated: the generator as it was drawn, or as it was trained."""
        if self.arm != "frozen":
            return bench.once(self._drawn, "drawn")
        z = noise(bench, self.samples, self.latent, "measure", "base")
        return Target(frozen(measured(parts["base"].model, z)), z[:4], norm="batch")

    def _told(self, target: Target, bench: Bench) -> Adversaries:
        found = bench.once(unit_images)
        size = len(found.classes) + self.latent
        # The identity as a body leaves 1 + A c and B c: the head starts at zero, and the offset is the identity.
        body = {"hidden": self.hidden} if self.hidden else {"body": nn.Identity()}
        told = Modulator(
            Affine(), Hypernet("condition", embedding=size, **body), target.norms(), seed=bench.seeds["source"]
        )
        own = [whole(target)] if self.arm == "whole" else []
        model = Modulated(target, *own, told, statistics(target))
        classes = len(found.classes)

        def generate(z: Tensor, y: Tensor) -> Tensor:
            made: Tensor = model(z, task=0, condition=self.condition(z, y, classes))
            return made

        return Adversaries("arm", model, generate, found, self, told=True, bench=bench)

    def _measured(self, arm: Adversaries, bench: Bench) -> Modulated:
        z, y = self._asked(bench, "measure", "arm")
        return measured(arm.model, z, self.condition(z, y, len(bench.once(unit_images).classes)))

    def _asked(self, bench: Bench, *names: object) -> tuple[Tensor, Tensor]:
        """Noise and classes of the samples, every class as often."""
        z = noise(bench, self.samples, self.latent, *names)
        return z, torch.arange(self.samples, device=z.device) % len(bench.once(unit_images).classes)

    def _agreement(self, made: Modulated, judge: Judge, bench: Bench) -> dict[str, float]:
        found = bench.once(unit_images)
        z, y = self._asked(bench, "samples")
        x = in_parts(lambda z, c: made(z, task=0, condition=c), z, self.condition(z, y, len(found.classes)))
        real, train = (unit(part[: self.samples].to(x.device)) for part in (found.test_images, found.train_images))
        seen = judge.features(real)
        return {
            "agreement": float((judge.classes(x) == y).double().mean()),
            "frechet": frechet(judge.features(x), seen),
            "frechet_real": frechet(judge.features(train), seen),
            "judge": judge.accuracy(),
        }

    def _counts(self, model: Modulated) -> dict[str, int]:
        """Numbers of the generator, and those of what modulates it."""
        generator = sum(p.numel() for p in model.target.pristine.parameters())
        told = sum(p.numel() for p in model.named_modulators()["affine"].parameters())
        return {"numbers": generator, "modulating": told}

    def _pictured(self, made: Modulated, bench: Bench) -> dict[str, Any]:
        """Samples of each class, a column a noise, and the ways between conditions at one latent vector."""
        names = bench.once(unit_images).classes
        classes, z = len(names), noise(bench, SHOWN, self.latent, "shown")

        def shown(z: Tensor, condition: Tensor) -> list[Any]:
            return picture(in_parts(lambda z, c: made(z, task=0, condition=c), z, condition))

        def of(label: int, style: int) -> Tensor:
            return self.condition(z[style : style + 1], torch.full((1,), label, device=z.device), classes)

        def way(one: Tensor, other: Tensor) -> list[Any]:
            place = torch.linspace(0, 1, WAY, device=z.device)[:, None]
            return shown(z[:1].expand(WAY, -1), (1 - place) * one + place * other)

        y = torch.arange(classes, device=z.device).repeat_interleave(SHOWN)
        pairs = range(min(WAYS, classes - 1))
        return {
            "classes": list(names),
            "samples": shown(z.repeat(classes, 1), self.condition(z.repeat(classes, 1), y, classes)),
            "between": [way(of(c, 0), of(c + 1, 0)) for c in pairs],
            "styles": [way(of(c, 0), of(c, 1)) for c in pairs],
        }
