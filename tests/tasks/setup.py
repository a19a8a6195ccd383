"""What tests of experiments begin with: the bench of a config without a run, and what stands on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.config.build import device_of, experiment
from tasks.runs.bench import Bench
from tasks.runs.checkpoint import from_file
from tasks.runs.seeds import seeds

# What makes the run of any experiment small.
SMALL = ["steps=1", "batch=8", "stream.tasks=2", "evaluation.batch=20", "device=cpu", "log_every=1", "save_every=1"]
INFERENCE = ["inference.images=4", "inference.group=2", "inference.groups=[]", "inference.at=[2]"]
SMALL += [*INFERENCE, "inference.predictors.rank=3", "inference.predictors.units=20", "replay.every=null"]


def bench_of(config: Mapping[str, Any]) -> Bench:
    """The bench on which `execute` would run a config."""
    return Bench(seeds(config["seed"]), device_of(config["device"]), config["title"], config["data"], config=config)


def bench(seed: int = 0) -> Bench:
    """A bench whose draws all come from one seed."""
    return Bench(dict.fromkeys(("target", "source", "data", "sampling"), seed))


def stream_of(config: Mapping[str, Any]) -> Any:
    """The stream of tasks of a config."""
    return experiment(config["run"]).tasks(bench_of(config))


def target_of(config: Mapping[str, Any]) -> Any:
    """The frozen network of a config."""
    return experiment(config["run"]).network(bench_of(config))


def learner_of(config: Mapping[str, Any], folder: Path | None = None) -> Any:
    """The learner of a config as it begins, or as it stands in the last checkpoint of a run."""
    learner = experiment(config["run"]).learn(bench_of(config))
    if folder is not None:
        learner.load_state_dict(state_of(folder)["learner"])
    return learner


def state_of(folder: Path) -> dict[str, Any]:
    """The state in the last checkpoint of a run."""
    state: dict[str, Any] = from_file(folder / "checkpoint.safetensors")["tree"]["state"]
    return state
