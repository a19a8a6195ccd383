"""From a resolved config to a finished meta-learning run, in the same folders as any other."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Recipe
from tasks.data import ImageSet, load
from tasks.errors import UserError
from tasks.make import make_device
from tasks.meta.arms import Plan, outer_step
from tasks.meta.pools import Pools, pools
from tasks.meta.protocol import Protocol, meta_test
from tasks.networks import ANML
from tasks.prepare import prepared
from tasks.progress import Progress
from tasks.runs import Run
from tasks.seeds import seeds
from tasks.train import set_rate

Step = Callable[[int], Tensor]
"""The number of an outer step to its loss; gradients are left on the parameters."""


def execute_meta(config: Mapping[str, Any], *, root: Path, command: Sequence[str], held: int | None = None) -> Path:
    """Run a meta-learning experiment to its end, or go on with it; returns its folder. A finished run is left as it is."""
    if held is not None:
        raise UserError(
            "rates of meta-learning are chosen on validation classes in the run itself; select has none to choose"
        )
    data = config["data"]
    images = prepared(load(data["name"], root=data["root"], download=data["download"]), data)
    device = make_device(config["device"])
    recorded = dict(config) | {"held_out": None, "data_sha256": images.sha256}
    slug = f"{config['experiment']}-seed{config['seed']}"
    with Run.open(root, slug, recorded, "meta", list(command), device=device.type) as run:
        if run.finished:
            return run.folder
        began = time.process_time()
        made = online_experiment(config, images, run, seeds(config["seed"]), device)
        kept = ("name", "sha256", "substitute")
        run.finish(
            {
                "title": config["title"],
                "method": config["title"],
                "role": "modulator",
                "forgetting": None,
                "matrix": None,
                "parameters_per_task": 0,
                "bytes_per_task": 0,
                "data": {key: getattr(images, key) for key in kept} | {"seed": config["seed"], "held_out": None},
                "seconds": round(time.process_time() - began, 2),
            }
            | made
        )
        return run.folder


def online_experiment(
    config: Mapping[str, Any], images: ImageSet, run: Run, derived: Mapping[str, int], device: torch.device
) -> dict[str, Any]:
    """Meta-train an arm of OML or ANML and test it on classes never seen; goes on from the run's checkpoint."""
    options = config["meta"]
    found = pools(images, options["validation"])
    net = network(options["net"], found, derived["target"]).to(device)
    part = Pools(found.train.to(device), found.validation.to(device), found.test.to(device), found.divided)
    plan = Plan(**options["plan"])
    steps = 0 if plan.learning == "nothing" else config["steps"]
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=options["rate"])
    loop(net, optimizer, lambda step: outer_step(plan, net, part.train, derived["data"], step), run, config, steps)
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


def loop(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: Step,
    run: Run,
    config: Mapping[str, Any],
    steps: int,
) -> None:
    """The outer loop: resumable at every checkpoint, bit for bit, because a step is drawn from its number."""
    done = _resume(net, optimizer, run)
    progress, began = Progress(config["title"], max(steps, 1), done=done), time.process_time()
    while done < steps:
        set_rate(optimizer, config["schedule"], done, steps)
        optimizer.zero_grad(set_to_none=True)
        loss = step(done)
        optimizer.step()
        done += 1
        if done % config["log_every"] == 0 or done == steps:
            value = float(loss)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the outer loss must stay finite; got {value} at step {done}; lower meta.rate"
                )
            run.log(step=done, task=None, phase="train", loss=value, clock={"seconds": time.process_time() - began})
            progress.update(done, loss=value)
        if done % config["save_every"] == 0 or done == steps:
            run.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, done)
    progress.close()


def _resume(net: nn.Module, optimizer: torch.optim.Optimizer, run: Run) -> int:
    found = run.load()
    if found is None:
        run.rewind(0)
        return 0
    tree, step = found
    run.rewind(step)
    net.load_state_dict(tree["model"])
    optimizer.load_state_dict(tree["optimizer"])
    return step
