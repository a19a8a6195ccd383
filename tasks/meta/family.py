"""From a resolved config to a finished meta-learning run, in the same folders as any other."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.continual.make import make_device
from tasks.data.load import ImageSet, load
from tasks.data.prepare import prepared
from tasks.errors import UserError, nearest
from tasks.meta.fewshot import fewshot
from tasks.meta.sequential import sequential
from tasks.meta.waves import waves
from tasks.runs.run import Run
from tasks.runs.seeds import seeds

Experiment = Callable[[Mapping[str, Any], ImageSet | None, Run, Mapping[str, int], torch.device], dict[str, Any]]
KINDS: Mapping[str, Experiment] = {"fewshot": fewshot, "sequential": sequential, "waves": waves}
KEPT = ("name", "sha256", "substitute")


def execute_meta(
    config: Mapping[str, Any],
    *,
    root: Path,
    command: Sequence[str],
    held: int | None = None,
    bars: Mapping[str, str] | None = None,
) -> Path:
    """Run a meta-learning experiment to its end, or go on with it; returns its folder. A finished run is left as it is."""
    if held is not None:
        rule = "rates of meta-learning are chosen on validation classes in the run itself"
        raise UserError(f"{rule}; select has none to choose")
    kind, data = config["meta"]["kind"], config["data"]
    if kind not in KINDS:
        raise UserError(
            f"meta.kind must be one of {', '.join(KINDS)}; got {kind!r}; nearest: {nearest(str(kind), KINDS)}"
        )
    images = None
    if data["name"] is not None:
        images = prepared(load(data["name"], root=data["root"], download=data["download"]), data)
    device = make_device(config["device"])
    said = {key: getattr(images, key, None) for key in KEPT}
    recorded = dict(config) | {"held_out": None, "data_sha256": said["sha256"]}
    slug = f"{config['experiment']}-seed{config['seed']}"
    with Run.open(root, slug, recorded, "meta", list(command), device=device.type, bars=bars) as run:
        if run.finished:
            return run.folder
        if run.resumed and run.resumed.elsewhere:
            print(run.resumed)
        began = time.process_time()
        made = KINDS[kind](config, images, run, seeds(config["seed"]), device)
        run.finish(
            {
                "title": config["title"],
                "method": config["title"],
                "role": "modulator",
                "forgetting": None,
                "matrix": None,
                "parameters_per_task": 0,
                "bytes_per_task": 0,
                "data": said | {"seed": config["seed"], "held_out": None},
                "seconds": round(time.process_time() - began, 2),
            }
            | made
        )
        return run.folder
