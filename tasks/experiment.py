"""The interface of every family of experiments, and the one way to run one: from a resolved config to a finished run."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from tasks.config.build import device_of, experiment
from tasks.data.prepare import images
from tasks.ledger.selection import choice_of
from tasks.runs.bench import Bench
from tasks.runs.run import Run
from tasks.runs.seeds import seeds

__all__ = ["Bench", "Costs", "Experiment", "Result", "execute"]

Role = Literal["modulator", "bracket"]


@dataclasses.dataclass(frozen=True)
class Costs:
    """What is kept for use: of each task alone, and shared by all.

    Args:
        parameters_per_task: numbers that a task has for itself.
        bytes_per_task: what they take as they are kept, sealed where they can be.
        parameters_shared: numbers that all tasks use.
        bytes_with_shared: bytes per task with the shared numbers (4 bytes each) divided by the tasks; None where no
            tasks are counted.

    """

    parameters_per_task: int
    bytes_per_task: int
    parameters_shared: int
    bytes_with_shared: float | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run says.

    Args:
        metric: the name of its headline number, such as ``accuracy`` or ``mean squared error``.
        value: that number; finite.
        better: which way it is better.
        costs: what is kept, where there is something to keep.
        measures: by name, everything else that was measured: plain values that JSON knows.
        role: ``modulator`` for what is shown, ``bracket`` for what it lies between.
        trained: in a word or three, what was trained and how.
        data: what it was measured on (``name``, ``sha256``, ``substitute``, and more); that of the config where None.

    """

    metric: str
    value: float
    better: Literal["higher", "lower"]
    costs: Costs | None = None
    measures: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    role: Role = "modulator"
    trained: str = ""
    data: Mapping[str, Any] | None = None


class Experiment(Protocol):
    """A family of experiments: a frozen dataclass, whose fields are its options, so that an unknown one is refused.

    It may have ``draw(runs, names)``, a static method that returns sections of the report (`tasks.report.panels`).
    """

    def fingerprint(self, bench: Bench) -> str:
        """What beside the config tells runs apart, such as the SHA-256 of a target; called before ``bench.run`` is there."""
        ...

    def execute(self, bench: Bench) -> Result:
        """Run to the end, or go on from the checkpoint of ``bench.run``."""
        ...


def execute(
    config: Mapping[str, Any],
    *,
    root: Path,
    command: Sequence[str],
    held: int | None = None,
    jobs: int = 1,
    results: Path = Path("results"),
    bars: Mapping[str, str] | None = None,
) -> Path:  # reason: what to run, where, and what its record must say
    """Run an experiment to its end, or go on with it; returns its folder. A finished run is left as it is.

    Args:
        config: as `tasks.config.load` gives it.
        root: the folder in which the run's own lies.
        command: what a reader types to run it again.
        held: training images of each task that stand in for its test images (for `select`).
        jobs: processes that may share the work.
        results: the folder of the ledger, whose choice of hyper-parameters is quoted.
        bars: digests of the rows of the ledger that this run is for, by row.

    """
    torch.set_num_threads(config["threads"])
    subject = experiment(config["run"])
    bench = Bench(
        seeds(config["seed"]),
        device_of(config["device"]),
        config["title"],
        config["data"],
        Path(root),
        list(command),
        jobs,
        held,
        config["log_every"],
        config["save_every"],
        config,
    )
    data = images(bench)
    recorded = {**config, "held_out": held, "data_sha256": None if data is None else data.sha256}
    slug = f"{config['experiment']}-seed{config['seed']}"
    opened = Run.open(
        root, slug, recorded, subject.fingerprint(bench), list(command), device=bench.device.type, bars=bars or {}
    )
    with opened as run:
        if run.finished:
            return run.folder
        if run.resumed and run.resumed.elsewhere:
            print(run.resumed)
        bench.run = run
        began = time.process_time()
        found = subject.execute(bench)
        record = _record(found, config, data)
        if held is None:
            record["selection"] = choice_of(config, results)
        run.finish(record | {"seconds": round(time.process_time() - began, 2)})
        return run.folder


def _record(result: Result, config: Mapping[str, Any], data: Any) -> dict[str, Any]:
    source = {key: getattr(data, key, None) for key in ("name", "sha256", "substitute")}
    return {
        "title": config["title"],
        **{name: getattr(result, name) for name in ("metric", "value", "better", "role", "trained")},
        "costs": None if result.costs is None else dataclasses.asdict(result.costs),
        "measures": dict(result.measures),
        "data": dict(result.data or source),
    }
