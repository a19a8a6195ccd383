"""OML, ANML and their controls: meta-trained arm by arm, then tested on classes never seen, one image at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuromod import Recipe
from tasks.config.build import call, having, target_of
from tasks.config.fields import Count
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.meta import drawing
from tasks.meta.family import MetaTraining, classes_of, data_record, outer
from tasks.meta.networks import ANML
from tasks.meta.networks.anml import GateForm
from tasks.meta.pools import Pools, pools
from tasks.meta.protocol import Protocol, meta_test
from tasks.report.panels import Section
from tasks.report.read import Run


@dataclass(frozen=True)
class Network:
    """Options of `tasks.meta.networks.ANML`.

    Args:
        width: channels of the encoder.
        gate_width: channels of the gate's network.
        gate: its form (`tasks.meta.networks.anml.GateForm`).
        frozen: the encoder keeps its random weights; the gate and the head are trained.

    """

    width: Count = 16
    gate_width: Count = 8
    gate: GateForm = "none"
    frozen: bool = False


@dataclass(frozen=True, kw_only=True)
class Streaming(MetaTraining):
    """Meta-train an arm of OML or ANML and test it on classes never seen, image after image (Beaulieu et al. 2020).

    Args:
        arm: what an outer step does (`tasks.meta.arms`).
        test: the test, and the rates it chooses from.
        net: the network.
        validation: classes cut from the background set, on which rates are chosen; ``steps``, ``rate`` and ``schedule``
            are those of `MetaTraining`.

    """

    arm: Mapping[str, Any]
    test: Protocol
    net: Network = Network()
    validation: Count = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        target_of(self.arm, "arm")
        if self.net.frozen and self.arm.get("fast", "all") == "all":
            raise UserError("a frozen network is not moved by the inner loop; got arm.fast=all; pass arm.fast=head")

    def execute(self, bench: Bench) -> Result:
        """Meta-train, then test; goes on from the run's checkpoint."""
        image_set, arm = classes_of(bench), having(call(self.arm, "arm"), self.arm, "arm", ("trains", "step"))
        found = pools(image_set, self.validation)
        net = network(self.net, found, bench.seeds["target"]).to(bench.device)
        train, validation, test = (pool.to(bench.device) for pool in (found.train, found.validation, found.test))
        part = Pools(train, validation, test, found.divided)
        steps = self.steps if arm.trains else 0

        def step(number: int) -> Any:
            return arm.step(net, part.train, bench.seeds["data"], number)

        outer(net, step, bench, steps=steps, rate=self.rate, schedule=self.schedule)
        tested = meta_test(net.encode, part, self.test, bench.seeds["sampling"])
        parameters = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in net.head.parameters())
        facts = {"arm": type(arm).__name__, "divided": found.divided}
        facts |= {name: getattr(arm, name) for name in ("order", "fast") if hasattr(arm, name)}
        return Result(
            "accuracy",
            tested["sgd"]["test_mean"][-1],
            "higher",
            Costs(0, 0, parameters),
            {"streaming": tested | facts},
            trained=f"{steps} outer steps",
            data=data_record(image_set, "streaming"),
        )

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """What is known after so many classes."""
        return drawing.streaming(runs, names)


def network(options: Network, pools: Pools, seed: int) -> ANML:
    """The network of an arm; its head has an output for every class of the background set.

    Args:
        options: widths and gate.
        pools: of classes, whose images say the shape.
        seed: of all weights.

    """
    kwargs = {"width": options.width, "gate_width": options.gate_width, "gate": options.gate}
    shape = tuple(pools.train.images.shape[2:])
    recipe = Recipe(ANML, {"shape": shape, "outputs": len(pools.train), **kwargs}, init="kaiming_normal", seed=seed)
    net = recipe.build()
    assert isinstance(net, ANML)
    net.pn.requires_grad_(not options.frozen)
    return net
