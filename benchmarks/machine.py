"""What a timing must hold fixed on this machine, and what the machine can do at best."""

import os
import sys
import time
from collections.abc import Mapping

import torch

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # Below these sizes malloc reuses its memory; above, every large temporary is mapped, zeroed and unmapped again,
    # which moves timings by a factor of 2 and depends on what ran before. 32 MiB is the most that every glibc accepts.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}

# A child's ru_maxrss begins at its parent's, so the mark of the highest resident set is reset (Linux, proc(5)) and read.
PEAK = """
def reset():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
"""


def fix_environment(environment: Mapping[str, str] = ENVIRONMENT) -> None:
    """Start this process again, once, with ``environment`` set: malloc and OpenMP read it at the start only."""
    if any(os.environ.get(name) != value for name, value in environment.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **environment})


def conditions() -> dict[str, str]:
    """What was held fixed."""
    torch.set_num_threads(1)
    return {"torch": torch.__version__, "threads": str(torch.get_num_threads()), **ENVIRONMENT}


def copy_seconds_per_byte(size: int = 64 << 20, turns: int = 9) -> float:
    """Process time of a large copy, a byte moved (read or written)."""
    source = torch.ones(size // 4)
    into = torch.empty_like(source)
    found = []
    for _ in range(turns):
        start = time.process_time()
        into.copy_(source)
        found.append(time.process_time() - start)
    return sorted(found)[turns // 2] / (2 * size)


def read_seconds_per_byte(size: int = 256 << 20, turns: int = 9) -> float:
    """Process time of reading a large array once, a byte."""
    source = torch.ones(size // 4)
    found = []
    for _ in range(turns):
        start = time.process_time()
        source.sum()
        found.append(time.process_time() - start)
    return sorted(found)[turns // 2] / size
