"""Few-shot classification: MAML and CAVIA by inner steps, CNAPs-style FiLM by reading the support set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neuromod import Affine, Hypernet, Modulated, Modulator, Recipe, Target
from neuromod.meta import Episodes, backward, cnaps
from tasks.config.build import call, having, target_of
from tasks.config.fields import Count, Range, Steps
from tasks.experiment import Bench, Costs, Result
from tasks.meta import adapt
from tasks.meta.family import MetaTraining, classes_of, data_record, outer
from tasks.meta.networks import Few
from tasks.meta.pools import Pool, pools
from tasks.meta.sampling import episodes
from tasks.runs.seeds import derive, generator


class Adaptation(Protocol):
    """How one task is learned from its support set."""

    def network(self, pool: Pool, ways: int, width: int, seeds: Mapping[str, int]) -> nn.Module:
        """What is meta-trained, for images of a pool: its parameters that ask for a gradient are the outer optimiser's.

        Args:
            pool: the classes to train on, whose images say the shape.
            ways: classes of a task, the number of logits.
            width: filters of each block.
            seeds: ``target`` of the start of a network, ``source`` of a modulator, ``data`` of batches of pretraining.

        """
        ...

    def answers(self, net: nn.Module, one: Episodes, ways: int) -> Tensor:
        """Logits (T, Q, ways) of the query sets after adaptation, with a gradient to what is meta-trained.

        Args:
            net: as `network` gave it.
            one: tasks: support sets (T, ways * shots, C, H, W) with labels, and query sets (T, Q, C, H, W).
            ways: classes of a task.

        """
        ...


@dataclass(frozen=True, kw_only=True)
class Maml(adapt.Maml):
    """Inner steps on all weights of `Few` (Finn et al. 2017)."""

    def network(self, pool: Pool, ways: int, width: int, seeds: Mapping[str, int]) -> nn.Module:
        """`Few` with an output for each way, statistics of each batch (transductive, as published)."""
        return _few(self, pool, ways, width, seeds)

    def answers(self, net: nn.Module, one: Episodes, ways: int) -> Tensor:
        """Logits (T, Q, ways) of the query sets after the inner steps."""
        return self(net, one, cross_entropy, answers=True)


@dataclass(frozen=True, kw_only=True)
class Cavia(adapt.Cavia):
    """Inner steps on a context that scales and shifts one block of `Few` (Zintgraf et al. 2019)."""

    def network(self, pool: Pool, ways: int, width: int, seeds: Mapping[str, int]) -> nn.Module:
        """`Few` that takes a context."""
        return _few(self, pool, ways, width, seeds)

    def answers(self, net: nn.Module, one: Episodes, ways: int) -> Tensor:
        """Logits (T, Q, ways) of the query sets after the inner steps."""
        return self(net, one, cross_entropy, answers=True)


@dataclass(frozen=True, kw_only=True)
class Film:
    """FiLM generated from the support set over a frozen `Few`, class means for a head (Requeima et al. 2019).

    The network is random, or trained for ``pretrain`` steps on the background classes.
    """

    pretrain: Steps = 0

    def network(self, pool: Pool, ways: int, width: int, seeds: Mapping[str, int]) -> nn.Module:
        """The frozen network under a modulator that reads images."""
        target, shape = self._frozen(pool, width, seeds), _shape(pool)
        encoder = Recipe(
            Few,
            {"shape": shape, "outputs": 0, "width": 16, "norm": "instance"},
            seed=derive("encoder", seeds["source"]),
        )
        source = Hypernet("condition", embedding=(None, *shape), body=encoder.build())
        return Modulated(target, Modulator(Affine(), source, target.norms(), seed=seeds["source"]))

    def answers(self, net: nn.Module, one: Episodes, ways: int) -> Tensor:
        """Logits (T, Q, ways) by class means of modulated features."""
        return cnaps(net, one, ways, adapted=True)

    def _frozen(self, pool: Pool, width: int, seeds: Mapping[str, int]) -> Target:
        options = {"shape": _shape(pool), "outputs": 0, "width": width, "norm": "instance"}
        body = Recipe(Few, options, init="kaiming_normal", seed=seeds["target"]).build()
        assert isinstance(body, Few)
        if self.pretrain:
            train_body(body, pool, self.pretrain, seeds["data"])
        return Target(body, pool.seen((slice(2), 0)))


@dataclass(frozen=True, kw_only=True)
class Off(Film):
    """The same network without FiLM: class means of its features; nothing is meta-trained."""

    def network(self, pool: Pool, ways: int, width: int, seeds: Mapping[str, int]) -> nn.Module:
        """The frozen network as it is."""
        return Modulated(self._frozen(pool, width, seeds))

    def answers(self, net: nn.Module, one: Episodes, ways: int) -> Tensor:
        """Logits (T, Q, ways) by class means of features."""
        return cnaps(net, one, ways, adapted=False)


@dataclass(frozen=True)
class Test:
    """``tasks``: test tasks, of classes never seen; 2 or more, for the interval of their mean."""

    tasks: Annotated[int, Range(least=2, most=1_000_000)] = 600


@dataclass(frozen=True, kw_only=True)
class FewShot(MetaTraining):
    """Meta-train on episodes of the background classes, test on episodes of classes never seen.

    Args:
        adapt: how a task is learned (`Maml`, `Cavia`, `Film`, `Off`, or the user's own `Adaptation`).
        validation: classes cut from the background set, for choices.
        ways: classes of a task.
        shots: images of each class to adapt on.
        queries: images of each class to judge by.
        tasks: per outer step.
        turned: classes turned by quarters count as other classes (Santoro et al. 2016).
        width: filters of a block.
        steps: outer steps.
        test: the test; ``rate`` and ``schedule`` are those of `MetaTraining`.

    """

    adapt: Mapping[str, Any]
    validation: Count = 200
    ways: Count = 5
    shots: Count = 1
    queries: Count = 5
    tasks: Count = 4
    turned: bool = True
    width: Count = 16
    steps: Steps = 3000
    test: Test = field(default_factory=Test)

    def __post_init__(self) -> None:
        super().__post_init__()
        target_of(self.adapt, "adapt")

    def execute(self, bench: Bench) -> Result:
        """Meta-train, then test; goes on from the run's checkpoint."""
        image_set, adaptation = (
            classes_of(bench),
            having(call(self.adapt, "adapt"), self.adapt, "adapt", ("network", "answers")),
        )
        found = pools(image_set, self.validation)
        net = adaptation.network(found.train, self.ways, self.width, bench.seeds).to(bench.device)
        train, test = found.train.to(bench.device), found.test.to(bench.device)

        def step(number: int) -> Tensor:
            one = self._drawn(train, bench.seeds["data"], number, turned=self.turned)
            loss = cross_entropy(adaptation.answers(net, one, self.ways).flatten(0, 1), one.query[1].flatten())
            backward(loss)
            return loss.detach()

        outer(net, step, bench, steps=self.steps, rate=self.rate, schedule=self.schedule)
        scores = []
        for number in range(-(-self.test.tasks // self.tasks)):
            one = self._drawn(test, bench.seeds["sampling"], number)
            scores.append((adaptation.answers(net, one, self.ways).argmax(2) == one.query[1]).double().mean(1))
        each = torch.cat(scores)[: self.test.tasks]
        moved = [p for p in net.parameters() if p.requires_grad]
        return Result(
            "accuracy",
            float(each.mean()),
            "higher",
            Costs(0, 0, sum(p.numel() for p in moved)),
            {"few_shot": {"interval": 1.96 * float(each.std()) / len(each) ** 0.5, "tasks": len(each)}},
            trained=f"{self.steps if moved else 0} outer steps",
            data=data_record(image_set, "episodes"),
        )

    def _drawn(self, pool: Pool, seed: int, number: int, *, turned: bool = False) -> Episodes:
        shape = {"ways": self.ways, "shots": self.shots, "queries": self.queries, "tasks": self.tasks}
        return episodes(pool, **shape, seed=seed, step=number, turned=turned)


def train_body(body: Few, pool: Pool, steps: int, seed: int, batch: int = 64) -> None:
    """Train a body with a linear head on the classes of a pool, Adam 1e-3; the head is dropped.

    Args:
        body: trained in place.
        pool: its classes.
        steps: of training.
        seed: of the head and the batches.
        batch: images per step.

    """
    width = body(pool.seen((slice(2), 0))).shape[1]
    head = Recipe(nn.Linear, {"in_features": width, "out_features": len(pool)}, seed=derive("pretrain", seed)).build()
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=1e-3)
    for step in range(steps):
        rng = generator("pretrain", seed, step)
        classes = torch.randint(len(pool), (batch,), generator=rng)
        places = torch.randint(pool.each, (batch,), generator=rng)
        loss = cross_entropy(head(body(pool.seen((classes, places)))), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _shape(pool: Pool) -> tuple[int, ...]:
    return tuple(pool.images.shape[2:])


def _few(adaptation: adapt.Maml, pool: Pool, ways: int, width: int, seeds: Mapping[str, int]) -> nn.Module:
    options: dict[str, Any] = {"shape": _shape(pool), "outputs": ways, "width": width}
    options |= {"context": adaptation.context_size} if adaptation.context_size else {}
    return Recipe(Few, options, init="kaiming_normal", seed=seeds["target"]).build()
