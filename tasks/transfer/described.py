"""Rows from a description: a hypernetwork that learned many tasks gives the rows of tasks that it was never trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neuromod import Hypernet, Modulated, Modulator, Recipe, Rows, Source, Table, Target, row_spread
from tasks.config.build import call, target_of
from tasks.config.fields import Count, Steps, fit_fields
from tasks.data.image_set import held_out
from tasks.data.pixels import unit
from tasks.data.prepare import images
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.networks import mlp
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.runs.loop import Number, Optimiser, loop
from tasks.runs.seeds import derive, generator
from tasks.transfer import described_drawing
from tasks.transfer.descriptions import DescribedTask, Describing

Spec = Mapping[str, Any]
Logits = Callable[[Tensor], Tensor]
HELD_OUT, TRAINING = "held out", "training"


@dataclass(frozen=True, kw_only=True)
class Described:
    """Many described tasks over one frozen network; the headline is the mean test accuracy of tasks that are held out.

    Every step is one batch that mixes tasks, each sample under the row of its own.

    Args:
        kind: of the rows, ``{_target_: neuromod.Affine}``; it acts on the outputs of all linear layers, or on all weights.
        optimizer: of what gives rows.
        base_optimizer: of the network, before it is frozen.
        changes: what tasks differ in: ``turn``, ``blocks``, ``pairs`` (`tasks.transfer.descriptions`).
        grid: rows and columns of the blocks.
        tasks: to train on.
        unseen: tasks that are held out.
        arm: ``"described"``: a hypernetwork reads the description, trained on the training tasks; ``"table"``: a row for each training
            task, and a held-out one takes that of the nearest description; ``"trained"``: a row for each held-out task, trained on it.
        body: widths of the hypernetwork's hidden layers.
        hidden: of the network.
        base_steps: of training the network on the images as they are; 0 leaves it as it was drawn.
        steps: of training rows.
        batch: images of a step.
        mixed: tasks of a step.

    """

    kind: Spec
    optimizer: Spec
    base_optimizer: Spec = field(default_factory=lambda: {"_target_": "torch.optim.Adam", "lr": 3e-3})
    changes: Sequence[Literal["turn", "blocks", "pairs"]] = ("blocks", "pairs")
    grid: Sequence[Count] = (1, 7)
    tasks: Count = 400
    unseen: Count = 20
    arm: Literal["described", "table", "trained"] = "described"
    body: Sequence[Count] = (64,)
    hidden: Sequence[Count] = (128, 128)
    base_steps: Steps = 600
    steps: Steps = 1500
    batch: Count = 128
    mixed: Count = 8

    def __post_init__(self) -> None:
        fit_fields(self, "run")
        for name in ("kind", "optimizer", "base_optimizer"):
            target_of(getattr(self, name), name)
        if self.batch % self.mixed:
            raise UserError(
                f"a batch has as many images of each of its tasks; got batch={self.batch} and mixed={self.mixed}; pass a multiple"
            )

    def fingerprint(self, bench: Bench) -> str:
        """That of the network before its training."""
        return Learned(self, bench).target().fingerprint()

    def execute(self, bench: Bench) -> Result:
        """Train the network, freeze it, train rows, test; goes on from the run's checkpoint."""
        learned = self.learn(bench)
        accuracies = [learned.accuracy(learned.logits(task), task) for task in learned.held_out]
        found: dict[str, Any] = {
            "accuracies": accuracies,
            "degrees": [task.degrees for task in learned.held_out],
            "arm": self.arm,
        }
        found |= {"changes": [*self.changes], "distances": learned.distances.amin(1).tolist(), **learned.beside()}
        return Result(
            "accuracy",
            sum(accuracies) / len(accuracies),
            "higher",
            learned.costs(),
            {"described": found},
            role="bracket" if self.arm == "trained" else "modulator",
            trained=f"{self.steps} steps of {self.mixed} tasks",
        )

    def learn(self, bench: Bench) -> "Learned":
        """The network and its rows, trained."""
        learned = Learned(self, bench)
        loop(learned.step, learned.state(), bench, steps=self.base_steps + self.steps)
        return learned

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Accuracy of held-out tasks, against the angle or the distance to what was trained."""
        return described_drawing.accuracies(runs, names)


class Learned:
    """The network, and what gives its rows, as one state.

    Args:
        options: of the experiment.
        bench: of the run.

    """

    def __init__(self, options: Described, bench: Bench) -> None:
        self.options, self.bench = options, bench
        self.world = bench.once(self._world, "world")
        rng = generator(bench.seeds["data"], "descriptions")
        # Held-out tasks first: they stay the same, however many are trained on.
        drawn = self.world.draw(options.unseen + options.tasks, rng)
        self.held_out, self.training = drawn[: options.unseen], drawn[options.unseen :]
        self.tasks = self.held_out if options.arm == "trained" else self.training
        self.descriptions = torch.stack([task.description for task in self.tasks]).to(bench.device)
        held, trained = (torch.stack([task.description for task in tasks]) for tasks in (self.held_out, self.training))
        self.distances = torch.cdist(held, trained)
        shape, classes = list(self.world.set.shape), len(self.world.set.classes)
        recipe = {"shape": shape, "outputs": classes, "hidden": list(options.hidden), "bias": True}
        self.net = Recipe(mlp, recipe, init="pytorch", seed=bench.seeds["target"]).build().to(bench.device)
        self.model: Modulated | None = None
        self.base_optimiser = self._optimiser("base_optimizer", lambda: self.net.parameters())
        self.optimiser = self._optimiser("optimizer", lambda: self.rows().parameters())

    def target(self) -> Target:
        """The network as it stands, frozen."""
        return Target(self.net, self.world.set.train_images[:2].float())

    def rows(self) -> Modulated:
        """The frozen network under its rows; made at the first call, behind the training of the network."""
        if self.model is None:
            read = len(self.descriptions[0])
            reads = Hypernet("condition", embedding=read, hidden=list(self.options.body))
            self.model = self.modulated(reads if self.options.arm == "described" else Table(len(self.tasks)))
        return self.model

    def modulated(self, source: Source) -> Modulated:
        """The frozen network under rows of the kind, from a source."""
        target, kind = self.target(), call(self.options.kind, "kind")
        sites = target.outputs(nn.Linear) if "output" in kind.roles else target.weights("*")
        return Modulated(target, Modulator(kind, source, sites, seed=derive(self.bench.seeds["source"], "rows")))

    def modulator(self) -> Modulator:
        """The one of the model."""
        return next(iter(self.rows().named_modulators().values()))

    def step(self, number: int) -> dict[str, Number]:
        """A step of the network, or of the rows."""
        options, base = self.options, self.options.base_steps
        if number < base:
            return self._base_step(number, number / base)
        self.base_optimiser.end()
        number -= base
        rng = generator(self.bench.seeds["data"], "batch", number)
        chosen = torch.randperm(len(self.tasks), generator=rng)[: options.mixed]
        each = options.batch // options.mixed
        parts = [self.world.batch(self.tasks[task], each, rng) for task in chosen.tolist()]
        x, y = (torch.cat(part) for part in zip(*parts, strict=True))
        which = chosen.repeat_interleave(each)
        given = {"condition": self.descriptions[which]} if options.arm == "described" else {"task": which}
        return self._moved(self.optimiser, partial(self.rows(), **given), (x, y), number / options.steps)

    def logits(self, task: DescribedTask) -> Logits:
        """The network under the row of a held-out task: the one that the description gives, the nearest one, or its own."""
        model, place = self.rows().eval(), self.held_out.index(task)
        if self.options.arm == "described":
            return partial(model, condition=task.description.to(self.bench.device))
        return partial(model, task=place if self.options.arm == "trained" else int(self.distances[place].argmin()))

    @torch.no_grad()
    def accuracy(self, logits: Logits, task: DescribedTask) -> float:
        """The share of a task's test images whose label is right."""
        x, y = self.world.test(task)
        found = torch.cat([self._own(logits(part)).argmax(1) for part in x.split(1000)])
        return float((found == y).double().mean())

    def beside(self) -> dict[str, Any]:
        """What stands beside the headline: rows of other tasks at the held-out ones, and how rows differ."""
        if self.options.arm == "trained":
            return {}
        model = self.rows().eval()
        if self.options.arm == "described":
            near = [self.descriptions[self.distances[i].argmin()] for i in range(len(self.held_out))]
            own = [self.accuracy(partial(model, condition=d), t) for d, t in zip(near, self.held_out, strict=True)]
            return {"own_nearest": _told(own), "spread": row_spread(self.modulator(), self.descriptions)}
        logits = self._mean()
        mean = [self.accuracy(logits, task) for task in self.held_out]
        return {"mean_row": _told(mean)}

    def costs(self) -> Costs:
        """What a task keeps: its description, or its row at rest."""
        model, modulator = self.rows(), self.modulator()
        frozen = sum(v.numel() for v in model.target.tensors().values())
        if self.options.arm == "described":
            own = len(self.descriptions[0])
            shared = frozen + sum(p.numel() for p in model.parameters())
            return Costs(own, 4 * own, shared, 4 * (own + shared / len(self.training)))
        rest = model.bytes_per_task(0)
        numbers = sum(value.numel() for value in modulator.start(0).values())
        return Costs(numbers, rest, frozen, rest + 4 * frozen / len(self.tasks))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, in the order in which it is loaded."""
        return {"learned": self, "base optimiser": self.base_optimiser, "optimiser": self.optimiser}

    def state_dict(self) -> dict[str, Any]:
        """The network, and the rows where they have begun."""
        return {"net": self.net.state_dict(), "rows": None if self.model is None else self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self.net.load_state_dict(state["net"])
        if state["rows"] is not None:
            self.rows().load_state_dict(state["rows"])

    def _mean(self) -> Logits:
        """The network under the mean of what the rows of all training tasks do."""
        name, modulator = next(iter(self.rows().named_modulators().items()))
        for task in modulator.source.tasks():
            modulator.seal(task)
        mean = {key: value.float().mean(0) for key, value in modulator.blended().items()}
        return partial(self.rows(), rows={name: Rows((mean,))})

    def _base_step(self, number: int, done: float) -> dict[str, Number]:
        found, rng = self.world.set, generator(self.bench.seeds["data"], "base", number)
        chosen = torch.randint(len(found.train_labels), (self.options.batch,), generator=rng)
        x, y = unit(found.train_images[chosen]), found.train_labels[chosen]
        return self._moved(self.base_optimiser, self.net, (x, y), done, own=False)

    def _moved(
        self, optimiser: Optimiser, logits: Logits, data: tuple[Tensor, Tensor], done: float, *, own: bool = True
    ) -> dict[str, Number]:
        optimiser.set_rate(done)
        optimiser.begin().zero_grad(set_to_none=True)
        found = logits(data[0])
        loss = cross_entropy(self._own(found) if own else found, data[1])
        loss.backward()
        optimiser.step()
        return {"loss": loss.detach()}

    def _own(self, logits: Tensor) -> Tensor:
        """Of a pair the first two outputs."""
        return logits[:, : self.world.outputs]

    def _optimiser(self, name: str, groups: Callable[[], Any]) -> Optimiser:
        return Optimiser(lambda moved: call(getattr(self.options, name), name, moved), groups, "cosine")

    def _world(self, bench: Bench) -> Describing:
        found = images(bench)
        if found is None or found.scaling != "unit":
            got = "data.name=null" if found is None else f"data.scaling={found.scaling}"
            raise UserError(f"described tasks show images with pixels from 0 to 1; got {got}; pass data.scaling=unit")
        if bench.held_out is not None:
            found = held_out(found, bench.held_out, generator(bench.seeds["data"], "held out"))
        return Describing(found.to(bench.device), self.options.changes, self.options.grid)


def _told(accuracies: Sequence[float]) -> dict[str, Any]:
    """Of the held-out tasks, and on average."""
    return {"accuracy": sum(accuracies) / len(accuracies), "each": list(accuracies)}
