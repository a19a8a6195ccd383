"""Where a result came from: versions, commit, device and machine. No host name and no path."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

UNKNOWN = "unknown"
HERE = Path(__file__).resolve().parents[2]
WRITTEN = ("ledger.json", "selection.json", "README.md", "*.svg")  # in results, by commands


@dataclass(frozen=True)
class Code:
    """The commit of the checkout, 'unknown' outside of one, and whether files differ from it (None where unknown)."""

    commit: str
    dirty: bool | None


@dataclass(frozen=True)
class Resumed:
    """A later start of a run.

    Args:
        commit: of the code that it runs.
        dirty: whether files differ from that commit; None where unknown.
        step: that it goes on from.
        began: the commit that the run began with.

    """

    commit: str
    dirty: bool | None
    step: int
    began: str

    @property
    def elsewhere(self) -> bool:
        """Whether the code may differ from the one that the run began with."""
        return self.commit != self.began or self.dirty is not False

    def __str__(self) -> str:
        return f"note: goes on at step {self.step} under other code than it began with ({self.began[:10]})"


def environment(command: Sequence[str], device: str) -> dict[str, Any]:
    """The record of a run's surroundings, strict JSON."""
    now = code()
    return {
        "command": list(command),
        "commit": now.commit,
        "dirty": now.dirty,
        "versions": {
            "python": platform.python_version(),
            # With its build, which the package's metadata leave out.
            "torch": torch.__version__,
            **{name: _version(name) for name in ("neuromod", "numpy")},
        },
        "device": describe_device(device),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "resumed": [],
    }


def code(folder: Path = HERE) -> Code:
    """The commit of the checkout that this code lies in, or of the ``git archive`` that it came out of."""
    output = git(folder, "rev-parse", "--show-toplevel", "HEAD")
    # A copy of the code inside somebody else's checkout must not pass for that checkout's commit.
    if output is None or Path(output.splitlines()[0]).resolve() != folder.resolve():
        return Code(_archived(folder), None)
    # What a run before has written into the results is no change of the code; bars, written by hand, are.
    written = (f":(exclude,glob)results/**/{name}" for name in WRITTEN)
    changes = git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".", *written)
    return Code(output.splitlines()[1], None if changes is None else bool(changes.strip()))


def _archived(folder: Path) -> str:
    """The commit that ``git archive`` wrote into the stamp; a stamp that it never filled in tells nothing."""
    stamp = folder / "tasks" / "commit.txt"
    text = stamp.read_text().strip() if stamp.exists() else ""
    return text if re.fullmatch(r"[0-9a-f]{40}", text) else UNKNOWN


def describe_device(device: str) -> str:
    """The device with its product name where it has one."""
    kind = torch.device(device)
    return f"{device} ({torch.cuda.get_device_name(kind)})" if kind.type == "cuda" else device


def processor() -> str:
    """The processor's product name; the architecture where the system does not tell it."""
    listing = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", listing.read_text(), re.MULTILINE) if listing.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine() or UNKNOWN


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def git(folder: Path, *arguments: str) -> str | None:
    """What git says of a checkout; None where there is no git, no checkout or no commit yet."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
