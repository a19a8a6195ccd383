"""A router over the sealed tasks of a finished run: the input alone says which masks, in which mixture."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuromod import Mixture, Modulated, Modulator
from neuromod.seeds import derive
from tasks.continual.learners.modulated import told
from tasks.continual.streams import Stream
from tasks.errors import UserError, nearest
from tasks.runs.run import Run

SAME = ("target", "stream", "data", "outputs", "seed", "device", "threads")
OPTIONS = ("form", "hidden")


def bank_config(config: Mapping[str, Any], load: Callable[[list[str]], dict[str, Any]]) -> dict[str, Any]:
    """The config of the run whose tasks are routed: the experiment ``bank`` on the target, stream and data of this run."""
    if not config["bank"]:
        raise UserError("method=routed needs the experiment whose tasks are routed; got none; pass bank=EXPERIMENT")
    unknown = [key for key in config["router"] if key not in OPTIONS]
    if unknown:
        raise UserError(f"router has no option {unknown[0]!r}; nearest: {nearest(unknown[0], OPTIONS)}")
    return load([f"experiment={config['bank']}"]) | {key: config[key] for key in SAME}


def routed(trained: Modulated, config: Mapping[str, Any], seed: int) -> Modulated:
    """The same target under mixtures of the sealed tasks of ``trained``, routed by the input."""
    for task in trained.tasks():
        trained.seal(task)
    parts = []
    for name, modulator in trained.named_modulators().items():
        if modulator.reads != "task":
            raise UserError(
                f"a router mixes modulators that read the task; {name} reads {modulator.reads}; leave it out"
            )
        source = Mixture(modulator.blended(*trained.tasks()), "input", **config["router"])
        parts.append(Modulator(modulator.kind, source, modulator.sites, seed=derive(seed, "router", name)))
    return Modulated(trained.target, *parts, vmap=config["vmap"])


def restore(model: torch.nn.Module, folder: Path) -> None:
    """Load the last checkpoint of a finished run."""
    found = Run.at(folder).load()
    if found is None:
        raise UserError(f"a bank is a run with a checkpoint; {folder.name!r} has none; remove it and run again")
    model.load_state_dict(found[0]["model"])


@torch.no_grad()
def routing(model: Modulated, stream: Stream, images: int = 500) -> dict[str, Any]:
    """Mean routing weight of each expert (column) on the first test images of each task (row), of the first mixture."""
    source = next((m.source for m in model.named_modulators().values() if isinstance(m.source, Mixture)), None)
    if source is None:
        return {}
    rows = [_mean(model, source, task.view(task.test.images[:images]), n) for n, task in enumerate(stream)]
    experts = [str(e + 1) for e in range(source.count)]
    return {"routing": {"weights": [[round(v, 4) for v in row.tolist()] for row in rows], "experts": experts}}


def _mean(model: Modulated, source: Mixture, x: Tensor, task: int) -> Tensor:
    weights, _ = source.weights(model.context((x,), **told(model, task)))
    return weights.double().mean(0)
