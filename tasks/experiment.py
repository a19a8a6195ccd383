"""From a resolved config to a finished run."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

import torch

from tasks.config.load import load as compose
from tasks.continual.bank import Learnt, fill, learn
from tasks.continual.learners.modulated import Played
from tasks.continual.learners.routed import bank_config
from tasks.continual.make import make_device, make_learner, make_plan, make_stream, make_target
from tasks.continual.measures.inference import check_method
from tasks.continual.measures.result import bits_per_weight, result_of, trained_outcome
from tasks.continual.measures.weights import analysed
from tasks.continual.online import online
from tasks.continual.sequence import train
from tasks.continual.streams import Stream
from tasks.continual.transfer import Transfer, steps_to
from tasks.ledger.selection import chosen
from tasks.meta.family import execute_meta
from tasks.runs.run import Run
from tasks.runs.seeds import seeds


def execute(
    config: Mapping[str, Any],
    *,
    root: Path,
    command: Sequence[str],
    held: int | None = None,
    results: Path = Path("results"),
    jobs: int = 1,
    bars: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Run an experiment to its end, or go on with it; returns its folder. A finished run is left as it is.

    ``held`` training images of each task stand in for its test images (for `select`). ``jobs`` processes fill a bank.
    ``bars`` are the digests of the ledger's entries that the run is for, by row: it records them when it begins.
    """
    torch.set_num_threads(config["threads"])
    if config["meta"] is not None:
        return execute_meta(config, root=root, command=command, held=held, bars=bars)
    device = make_device(config["device"])
    for name in config["inference"]["methods"]:
        check_method(name)
    bank = None
    if config["method"] == "routed":
        told = bank_config(config, compose)
        bank = told, execute(told, root=root, command=command, held=held, results=results)
    derived = seeds(config["seed"])
    stream = make_stream(config, derived, held).to(device)
    target = make_target(config, stream, derived)
    recorded = dict(config) | {"held_out": held, "data_sha256": stream.image_set.sha256}
    slug = f"{config['experiment']}-seed{config['seed']}"
    with Run.open(root, slug, recorded, target.fingerprint(), list(command), device=device.type, bars=bars) as run:
        if run.finished:
            return run.folder
        if run.resumed and run.resumed.elsewhere:
            print(run.resumed)
        began = time.process_time()
        learner = make_learner(config, target, stream, derived, bank).to(device)
        outcome = _train(config, learner, stream, run, derived["data"], jobs, held)
        learner.eval()
        result = result_of(config, learner, stream, outcome)
        result |= analysed(learner, target.tensors(), stream, config["analysis"], derived["sampling"])
        if held is None:
            result["selection"] = chosen(config, results)
        run.finish(result | {"seconds": round(time.process_time() - began, 2)})
        return run.folder


def _train(
    config: Mapping[str, Any],
    learner: Any,
    stream: Stream,
    run: Run,
    seed: int,
    jobs: int,
    held: int | None,
) -> dict[str, Any]:
    """Train in the order of the config; what the loop itself measured."""
    plan, options = make_plan(config), {"seed": seed, "title": config["title"]}
    if config["order"] == "bank":
        spread = {"jobs": jobs, "elsewhere": partial(learn_elsewhere, dict(config), held)}
        asked = {"together": config["together"], "transfer": config["transfer"]}
        filled = fill(learner, stream, plan, run, **asked, **spread, **options)
        outcome: dict[str, Any] = {"accuracy": fmean(filled.final), "forgetting": filled.forgetting}
        outcome |= {"matrix": [filled.final], "learned": filled.learned, "stored_bytes_per_task": filled.stored}
        outcome |= {"bits_per_weight": bits_per_weight(learner.model, filled.stored)}
        if config["together"] == 1:
            outcome |= {"steps_to_90": steps_to(run.metrics(), 0.9, plan_steps=config["steps"])}
        return outcome
    if config["order"] == "online":
        found, final = online(learner, stream, plan, run, options=config["allocation"], **options)
        return {
            "accuracy": fmean(final),
            "forgetting": None,
            "matrix": [final],
            "allocation": found.summary(range(len(stream))),
        }
    return trained_outcome(train(learner, stream, plan, run, **options), joint=config["order"] == "joint")


def learn_elsewhere(
    config: Mapping[str, Any], held: int | None, blocks: Sequence[Sequence[int]], first: int
) -> list[list[Learnt]]:
    """Some blocks of a bank, learned from the config alone: in another process."""
    torch.set_num_threads(config["threads"])
    derived, plan = seeds(config["seed"]), make_plan(config)
    stream = make_stream(config, derived, held).to(make_device(config["device"]))
    learner = make_learner(config, make_target(config, stream, derived), stream, derived)
    played = learner.to(stream[0].train.images.device)
    assert isinstance(played, Played)
    found = []
    for block in blocks:
        found.append(learn(played, stream, plan, block, derived["data"], first, Transfer("none")))
        first += len(block) * plan.steps
    return found
