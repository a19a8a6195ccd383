"""A run is a folder ROOT/<slug>-<hash>: what was asked for, where it ran, what it measured, and how far it is.

    config.json             the resolved configuration, defaults too
    environment.json        versions, commit, device, machine, command, fingerprint; `resumed` lists later starts
    metrics.jsonl           one JSON object per line; readings of a clock lie under the one key "clock"
    checkpoint.safetensors  the latest state
    result.json             present when the run is finished
    plots/

All JSON is strict: nan, inf and -inf are those strings.
"""

import fcntl
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from tasks.errors import UserError
from tasks.runs.checkpoint import from_file, to_bytes
from tasks.runs.environment import environment
from tasks.runs.files import TEMPORARY, canonical, digest, dumps, read_json, strict, write_atomic, write_json
from tasks.runs.seeds import seeds

__all__ = ["Resumed", "Run", "config_hash", "seeds", "write_atomic"]

SLUG_LENGTH = 100


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


@dataclass
class Run:
    """An open run. Closing it, or leaving its ``with`` block, frees the folder.

    Args:
        folder: its own.
        config: resolved.
        resumed: how it goes on; None at the first start.
        _lock: an open file that other processes are kept out by; None: opened to read.

    """

    folder: Path
    config: dict[str, Any]
    resumed: Resumed | None = None
    _lock: BinaryIO | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        slug: str,
        config: Mapping[str, Any],
        fingerprint: str,
        command: Sequence[str],
        *,
        device: str = "cpu",
        bars: Mapping[str, str] | None = None,
    ) -> Self:  # reason: all that a run's record says of its start
        """The run of this configuration and target, new or begun before. UserError where another process has it.

        Args:
            root: the folder in which the run's own lies.
            slug: a readable beginning of its name.
            config: resolved; all of it counts in the hash but what `config_hash` leaves out.
            fingerprint: what beside the config tells runs apart.
            command: what was typed.
            device: ``cpu`` or ``cuda``.
            bars: digests of the ledger's entries that the run is for, by row; those of its first start are kept.

        """
        resolved = strict(dict(config), "config")
        folder = Path(root) / f"{_slug(slug)}-{config_hash(resolved, fingerprint)}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder)
        try:
            for stale in folder.glob(f".*{TEMPORARY}"):
                stale.unlink()
            _write_once(folder / "config.json", resolved)
            (folder / "plots").mkdir(exist_ok=True)
            run = cls(folder, resolved, None, lock)
            run._drop_torn_line()
            if not run.finished:
                known = {"fingerprint": fingerprint, "bars": dict(bars or {})}
                run._record_start({**environment(command, device), **known})
        except BaseException:
            lock.close()
            raise
        return run

    @classmethod
    def at(cls, folder: str | os.PathLike[str]) -> Self:
        """An existing run, to read and not to write, whoever else is using it. UserError where there is none."""
        path = Path(folder)
        if not (path / "config.json").exists():
            raise UserError(f"a run is a folder with config.json; {path} has none; give the folder of a run")
        return cls(path, read_json(path / "config.json"))

    def __fspath__(self) -> str:
        return str(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the folder for another process."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def finished(self) -> bool:
        """Whether result.json is there and readable."""
        try:
            return isinstance(read_json(self.folder / "result.json"), dict)
        except (OSError, ValueError):
            return False

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self._checkpoint.exists()

    @property
    def plots(self) -> Path:
        """The folder of this run for pictures."""
        return self.folder / "plots"

    def log(self, **fields: Any) -> None:
        """Append one line to metrics.jsonl, flushed; what a clock says goes under `clock` and nowhere else."""
        line = (dumps(fields) + "\n").encode()
        # Closed after each line: a process that is killed leaves whole lines and at most one torn end.
        with open(self._writable / self._metrics.name, "ab") as file:
            file.write(line)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far; a torn last line is left out."""
        return [json.loads(line) for line in self._lines()]

    def save(self, tree: Any, step: int) -> None:
        """Replace the checkpoint by the state after `step` steps.

        Log all of a step before saving it: a resumed run keeps the lines logged so far and drops all later ones.
        """
        # The lines that the checkpoint counts must outlive the machine as surely as the checkpoint.
        with open(self._writable / self._metrics.name, "ab") as file:
            os.fsync(file.fileno())
        state = {"step": step, "lines": len(self._lines()), "tree": tree}
        write_atomic(self._checkpoint, to_bytes(state))

    def load(self) -> tuple[Any, int] | None:
        """The saved tree, tensors on the CPU, and its step; None before the first checkpoint."""
        if not self._checkpoint.exists():
            return None
        state = from_file(self._checkpoint)
        return state["tree"], state["step"]

    def rewind(self, step: int) -> None:
        """Drop the metrics written after the checkpoint of `step`; step 0 without a checkpoint drops them all.

        The checkpoint knows how many lines it follows, so lines of its own step are told apart too.
        """
        state = {"step": 0, "lines": 0}
        if self._checkpoint.exists():
            state = from_file(self._checkpoint, plain=True)
        if state["step"] != step:
            raise ValueError(
                f"a run rewinds to its checkpoint, step {state['step']}; got step {step}; pass that of load()"
            )
        lines = self._lines()
        if len(lines) < state["lines"]:
            missing = state["lines"] - len(lines)
            raise UserError(f"{self._metrics} lacks {missing} lines of before the checkpoint; remove {self.folder}")
        write_atomic(self._writable / self._metrics.name, b"".join(lines[: state["lines"]]))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json: the run is finished."""
        write_json(self._writable / "result.json", dict(result))

    @property
    def _metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def _writable(self) -> Path:
        if self._lock is None:
            raise RuntimeError(f"only an open run can be written; {self.folder} is closed or was opened with Run.at")
        return self.folder

    def _lines(self) -> list[bytes]:
        if not self._metrics.exists():
            return []
        return [line for line in self._metrics.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def _drop_torn_line(self) -> None:
        whole = sum(len(line) for line in self._lines())
        if self._metrics.exists() and self._metrics.stat().st_size > whole:
            os.truncate(self._metrics, whole)

    def _record_start(self, now: dict[str, Any]) -> None:
        """Write environment.json. A run that never reached a checkpoint starts anew, so nothing of it is kept."""
        path = self.folder / "environment.json"
        if self._checkpoint.exists():
            step = from_file(self._checkpoint, plain=True)["step"]
            began = read_json(path)
            self.resumed = Resumed(now["commit"], now["dirty"], step, began["commit"])
            entry = {key: now[key] for key in ("commit", "dirty", "device", "machine")} | {"step": step}
            now = began | {"resumed": [*began["resumed"], entry]}
        write_json(path, now)


# What names a run for people, chooses among runs, or says how often one is told of: the same run whatever they say.
BESIDE = ("title", "select", "log_every")


def config_hash(config: Mapping[str, Any], fingerprint: str) -> str:
    """Ten hex digits over every resolved value but `BESIDE`, defaults too, and the target's fingerprint.

    Nothing is left out for being at its default: a default that changes later must not point at old folders.
    """
    values = {key: value for key, value in config.items() if key not in BESIDE}
    return digest(canonical({"config": values, "fingerprint": fingerprint}))[:10]


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:SLUG_LENGTH].strip("-.")
    if not slug:
        raise UserError(f"a run needs a name with letters or digits; got {text!r}; name the experiment")
    return slug


def _locked(folder: Path) -> BinaryIO:
    """The open lock file. The system frees it when the process ends, however it ends."""
    lock = open(folder / "lock", "ab")  # noqa: SIM115 (it stays open as long as the run)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UserError(f"a run has one process at a time; {folder} is in use; wait for it or stop it") from error
    return lock


def _write_once(path: Path, config: Mapping[str, Any]) -> None:
    """A run keeps the configuration that it began with; another with its hash differs in nothing that it did."""
    if not path.exists():
        write_json(path, config)
        return
    before, now = ({k: v for k, v in one.items() if k not in BESIDE} for one in (read_json(path), config))
    if before != now:
        raise UserError(
            f"{path} must be the configuration that its folder is named after; it differs; remove the folder"
        )
