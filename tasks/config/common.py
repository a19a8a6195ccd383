"""The options that every family of experiments shares: the keys of ``configs/train.yaml`` beside ``run``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tasks.config.fields import Count, Range, Side

Seed = Annotated[int, Range(least=-(2**63), most=2**63 - 1)]


@dataclass(frozen=True)
class Data:
    """The image set and what is done to it (`tasks.data.prepare.prepared`).

    Args:
        name: of the set, or ``folder:PATH``; None: no images.
        root: the data root; None: that of the environment.
        download: fetch a set that is not there.
        divide: a set with one part gets a test part.
        halve: average squares of 2 x 2 pixels.
        side: pixels to which images are resized; None: as they are.
        turn: quarters, counter-clockwise.
        rgb: the side to which images of three channels are padded; None: as they are.
        scaling: ``standard`` or ``unit``.

    """

    name: str | None
    root: str | None = None
    download: bool = False
    divide: bool = False
    halve: bool = False
    side: Side | None = None
    turn: Annotated[int, Range(least=-1000, most=1000)] = 0
    rgb: Side | None = None
    scaling: Literal["standard", "unit"] = "standard"


@dataclass(frozen=True)
class Select:
    """How hyper-parameters are chosen (`tasks.commands.select`).

    Args:
        grid: values by key; None: none.
        seeds: of calibration.
        held_out: training images of each task that are measured on.
        metric: path of the number that is chosen by.
        overrides: of the runs of the grid.

    """

    grid: Mapping[str, Any] | None = None
    seeds: Sequence[Seed] = (100, 101, 102)
    held_out: Count = 5000
    metric: str = "accuracy"
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class Common:
    """What stands at the top of every config.

    Args:
        seed: of all draws.
        data: the images.
        title: for people; None: the experiment's name.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of torch.
        log_every: steps between logged lines.
        save_every: steps between checkpoints.
        select: how hyper-parameters are chosen.

    """

    seed: Seed
    data: Data
    title: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Range(least=1, most=1024)] = 1
    log_every: Annotated[int, Range(least=1, most=2**62)] = 50
    save_every: Annotated[int, Range(least=1, most=2**62)] = 500
    select: Select = field(default_factory=Select)
