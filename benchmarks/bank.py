"""A store of 2,500 tasks: bits a weight on disk, what opening it and reading one task costs, and memory against tasks.

LeNet-300-100 with 100 outputs. The masks are those that the accuracy recipe would give, modelled: independent flips of the
seeded start with the shares measured at each layer of two trained tasks (``FLIPPED``); `results/README.md` has the
sizes of trained ones.
Milliseconds and megabytes are held to the bars themselves: they are limits on what a user waits for, not comparisons.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.inference import SIZES, network
from benchmarks.machine import PEAK, conditions
from benchmarks.timing import Bar, Report
from neuromod import Modulated, Modulator, Store, Table, Target, Threshold
from neuromod.kinds.bits import pack, unpack
from neuromod.seeds import generator
from neuromod.sources.base import by_site

TASKS, FEW = 2500, 10
FLIPPED = {"0.weight": 0.168, "2.weight": 0.261, "4.weight": 0.172}


def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` stores a tenth of the tasks."""
    fixed = conditions()
    count = TASKS // 10 if quick else TASKS
    with tempfile.TemporaryDirectory() as folder:
        bars = [*_sizes(Path(folder), count), *_reading(Path(folder) / "raw", count), *_memory(count // 10)]
    return Report("bank", tuple(bars), fixed | {"tasks": str(count)})


def model() -> Modulated:
    """Without tasks yet."""
    target = Target(network(), torch.zeros(2, SIZES[0]))
    return Modulated(target, Modulator(Threshold(), Table(0), target.weights("*"), seed=1)).eval()


def seal(played: Modulated, task: int) -> None:
    """A task whose masks differ from their start as trained ones do."""
    masks = played.named_modulators()["threshold"]
    start = by_site(masks.start(task))
    row = {}
    for site in masks.sites:
        rng = generator(0, "flips", task, site.name)
        flips = (torch.rand(site.shape, generator=rng) < FLIPPED[site.name]).to(torch.float32)
        kept = unpack(masks.kind.freeze(site, start[site.label])["bits"], site.shape)
        row[f"{site.label}/bits"] = pack((kept - flips).abs())
    masks.sealed.seal(task, row)


def _sizes(folder: Path, count: int) -> list[Bar]:
    played = model()
    stores = {coding: Store.create(folder / coding, played, coding=coding) for coding in ("raw", "smallest")}
    empty = {coding: store.bytes_on_disk() for coding, store in stores.items()}
    for task in range(count):
        seal(played, task)
        for store in stores.values():
            store.append(played, task)
    weights = count * sum(site.shape[0] * site.shape[1] for site in played.named_modulators()["threshold"].sites)
    bits = {coding: 8 * (store.bytes_on_disk() - empty[coding]) / weights for coding, store in stores.items()}
    return [
        Bar("bits a weight on disk, raw", bits["raw"], 1.02),
        Bar("bits a weight on disk, coded against the seeded start", bits["smallest"], 0.75),
    ]


READ = f"""
import json, sys, time
from neuromod import Store
{PEAK}
reset()
before = peak()
start = time.process_time()
rows = Store.open(sys.argv[1]).read(int(sys.argv[2]))
taken = time.process_time() - start
assert rows
print(json.dumps([taken, peak() - before]))
"""


def _reading(folder: Path, count: int) -> list[Bar]:
    found = []
    for turn in range(5):
        done = subprocess.run(
            [sys.executable, "-c", READ, str(folder), str(count // 2 + turn)],
            check=True,
            capture_output=True,
            text=True,
        )
        found.append(json.loads(done.stdout))
    seconds, kilobytes = (sorted(part)[2] for part in zip(*found, strict=True))
    return [
        Bar("opening the store and reading one task, ms", 1e3 * seconds, 50),
        Bar("memory that it takes, MB", kilobytes / 1e3, 100),
    ]


GROW = f"""
import sys
from benchmarks.bank import model, seal
from neuromod import Bank
{PEAK}
reset()
played = model()
for task in range(int(sys.argv[1])):
    seal(played, task)
Bank(played).mean()
print(peak())
"""


def _memory(count: int) -> list[Bar]:
    peaks = [
        int(subprocess.run([sys.executable, "-c", GROW, str(n)], check=True, capture_output=True, text=True).stdout)
        for n in (FEW, count)
    ]
    return [Bar(f"peak memory of sealing {count} tasks above that of {FEW}, MB", (peaks[1] - peaks[0]) / 1e3, 25)]
