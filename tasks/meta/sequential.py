"""OML, ANML and their controls: meta-trained arm by arm, then tested on classes never seen, one image at a time."""

from collections.abc import Mapping
from typing import Any

import torch

from neuromod import Recipe
from tasks.data.load import ImageSet
from tasks.errors import UserError
from tasks.meta.arms import Plan, outer_step
from tasks.meta.pools import Pools, pools
from tasks.meta.protocol import Protocol, meta_test
from tasks.networks import ANML
from tasks.runs.loop import loop
from tasks.runs.run import Run


def sequential(
    config: Mapping[str, Any], images: ImageSet | None, run: Run, derived: Mapping[str, int], device: torch.device
) -> dict[str, Any]:
    """Meta-train an arm of OML or ANML and test it on classes never seen; goes on from the run's checkpoint."""
    options = config["meta"]
    if images is None:
        raise UserError("sequential learning needs an image set; got data.name=null; pass data=omniglot")
    found = pools(images, options["validation"])
    net = network(options["net"], found, derived["target"]).to(device)
    part = Pools(found.train.to(device), found.validation.to(device), found.test.to(device), found.divided)
    plan = Plan(**options["plan"])
    if options["net"]["frozen"] and plan.fast == "all":
        raise UserError("a frozen network is not moved by the inner loop; got meta.plan.fast=all; pass fast=head")
    steps = 0 if plan.learning == "nothing" else config["steps"]
    loop(net, lambda step: outer_step(plan, net, part.train, derived["data"], step), run, config, steps)
    tested = meta_test(net.encode, part, Protocol(**options["test"]), derived["sampling"])
    parameters = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in net.head.parameters())
    return {
        "meta": tested | {"order": plan.order, "fast": plan.fast, "learning": plan.learning, "divided": found.divided},
        "accuracy": tested["sgd"]["test_mean"][-1],
        "trained": f"{steps} outer steps",
        "parameters_shared": parameters,
        "stream": "sequential",
    }


def network(options: Mapping[str, Any], found: Pools, seed: int) -> ANML:
    """The network of an arm, drawn from the seed; a head with an output for every class of the background set."""
    told = {key: options[key] for key in ("width", "gate_width", "gate")}
    shape = tuple(found.train.images.shape[2:])
    recipe = Recipe(ANML, {"shape": shape, "outputs": len(found.train), **told}, init="kaiming_normal", seed=seed)
    net = recipe.build()
    assert isinstance(net, ANML)
    net.pn.requires_grad_(not options["frozen"])
    return net
