"""What an experiment works on: its run, its seeds, its device, and the settings that all experiments share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

Made = TypeVar("Made")


@dataclass(eq=False)
class Bench:
    """The place of one run: what an experiment works on beside its own options.

    Args:
        seeds: ``target``, ``source``, ``data``, ``sampling``, each of draws of its own.
        device: of networks and images.
        title: of the run, for its progress.
        data: the options of `tasks.data.prepare.images`.
        root: the folder in which runs lie.
        command: what was typed.
        jobs: processes that may share the work.
        held_out: training images of each task that stand in for its test images, where hyper-parameters are chosen;
            else None.
        log_every: steps between logged lines.
        save_every: steps between checkpoints.
        config: the whole config, resolved.
        measured: what the measures before this one found, by name.
        _made: what was made once, by its key.

    """

    seeds: Mapping[str, int]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    title: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    root: Path = Path("runs")
    command: Sequence[str] = ()
    jobs: int = 1
    held_out: int | None = None
    log_every: int = 50
    save_every: int = 500
    config: Mapping[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    run: Any = field(init=False)  # a Run, or Lines
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, make: Callable[["Bench"], Made], key: object = None) -> Made:
        """What ``make`` makes of this bench, made once: its stream and its target name the run and then are its subject.

        ``key`` tells what is made where ``make`` itself is another object each time.
        """
        place = make if key is None else key
        if place not in self._made:
            self._made[place] = make(self)
        made: Made = self._made[place]
        return made


class Lines:
    """A run that nobody keeps: what it logs is held as lines, for the process that writes."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def log(self, **fields: Any) -> None:
        """Keep the fields of one logged line."""
        self.lines.append(fields)
