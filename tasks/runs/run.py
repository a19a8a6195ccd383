"""A run is a folder ROOT/<slug>-<hash>: what was asked for, where it ran, what it measured, and how far it is.

    config.json             the resolved configuration, defaults too
    environment.json        versions, commit, device, machine, command, fingerprint; `resumed` lists later starts
    metrics.jsonl           one JSON object per line; readings of a clock lie under the one key "clock"
    checkpoint.safetensors  the latest state
    result.json             present when the run is finished; digests.json beside it
    plots/

Each is read with the digest that was written with it (`tasks.runs.records`).

All JSON is strict: nan, inf and -inf are those strings.
"""

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from tasks.errors import UserError
from tasks.runs.checkpoint import from_file, to_bytes
from tasks.runs.digests import CONFIG, read_bounded, write_sealed
from tasks.runs.environment import Resumed, environment
from tasks.runs.files import (
    TEMPORARY,
    digest,
    dumps,
    file_digest,
    read_json,
    strict,
    write_atomic,
    write_json,
)
from tasks.runs.identity import config_hash, told
from tasks.runs.identity import slug as readable
from tasks.runs.metrics import Metrics
from tasks.runs.records import (
    CHECKPOINT,
    DIGESTS,
    METRICS,
    RESULT,
    config_of,
    environment_of,
    lacks,
    metrics_of,
    read_lines,
    result_of,
)
from tasks.runs.seeds import seeds

__all__ = ["Resumed", "Run", "config_hash", "seeds", "write_atomic"]


@dataclass
class Run:
    """An open run. Closing it, or leaving its ``with`` block, frees the folder.

    Args:
        folder: its own.
        config: resolved.
        resumed: how it goes on; None at the first start.
        _lock: an open file that other processes are kept out by; None: opened to read.
        _made: the folders that this start made, the run's own first; none where it was begun before.
        _log: its metrics; None: opened to read.

    """

    folder: Path
    config: dict[str, Any]
    resumed: Resumed | None = None
    _lock: BinaryIO | None = field(default=None, repr=False)
    _made: Sequence[Path] = field(default=(), repr=False)
    _log: Metrics | None = field(default=None, repr=False)

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
        folder = Path(root) / f"{readable(slug)}-{config_hash(resolved, fingerprint)}"
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder)
        run = cls(folder, resolved, None, lock, made)
        try:
            for stale in folder.glob(f".*{TEMPORARY}"):
                stale.unlink()
            run._settle(resolved)
            (folder / "plots").mkdir(exist_ok=True)
            run._log = Metrics(folder / METRICS)
            if not run.finished:
                known = {"fingerprint": fingerprint, "bars": dict(bars or {})}
                run._record_start({**environment(command, device), **known})
        except BaseException as error:
            run.__exit__(type(error), error, None)
            raise
        return run

    @classmethod
    def at(cls, folder: str | os.PathLike[str]) -> Self:
        """An existing run, to read and not to write, whoever else is using it. UserError where there is none."""
        path = Path(folder)
        if not (path / "config.json").exists():
            raise UserError(f"a run is a folder with config.json; {path} has none; give the folder of a run")
        return cls(path, config_of(path))

    def __fspath__(self) -> str:
        return str(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._discard()
        self.close()

    def close(self) -> None:
        """Free the folder for another process."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def finished(self) -> bool:
        """Whether result.json is there and readable. UserError where it is readable and not as it was written."""
        try:
            found = read_json(self.folder / RESULT)
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and result_of(self.folder) == found

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
        self._writing.append((dumps(fields) + "\n").encode())

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far; a torn last line is left out. UserError where they are not as they were written."""
        return read_lines(self._metrics, metrics_of(self.folder))

    def save(self, tree: Any, step: int) -> None:
        """Replace the checkpoint by the state after `step` steps.

        Log all of a step before saving it: a resumed run keeps the lines logged so far and drops all later ones.
        """
        log = self._writing
        # The lines that the checkpoint counts must outlive the machine as surely as the checkpoint.
        log.sync()
        write_sealed(self.folder / DIGESTS, log.account())
        state = {"step": step, "lines": log.count, "tree": tree}
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
        lines = metrics_of(self.folder)
        if len(lines) < state["lines"]:
            raise UserError(lacks(self._metrics, state["lines"] - len(lines)))
        self._writing.keep(lines[: state["lines"]])

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json: the run is finished."""
        log, text = self._writing, dumps(dict(result), indent=2) + "\n"
        # Before the result, so that no run is finished without them.
        write_sealed(self.folder / DIGESTS, {**log.account(), RESULT: digest(text)})
        write_atomic(self.folder / RESULT, text)

    def _discard(self) -> None:
        """Remove what this start made where it ended in an error before it logged or saved: nothing of it is of use."""
        if not self._made or self._lock is None or self.begun or (self._log is not None and self._log.count):
            return
        shutil.rmtree(self.folder)
        for parent in self._made[1:]:
            if any(parent.iterdir()):
                return
            parent.rmdir()

    @property
    def _metrics(self) -> Path:
        return self.folder / METRICS

    @property
    def _checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def _writing(self) -> Metrics:
        if self._lock is None or self._log is None:
            raise RuntimeError(f"only an open run can be written; {self.folder} is closed or was opened with Run.at")
        return self._log

    def _settle(self, config: Mapping[str, Any]) -> None:
        """Write config.json; a run that reached a checkpoint keeps the one that it began with, checked."""
        path = self.folder / "config.json"
        kept = self.begun or (self.folder / RESULT).exists()
        if path.exists():
            before = config_of(self.folder) if kept else read_bounded(path)
            # Another configuration of its hash differs in nothing that a run does.
            if told(before) != told(config):
                rule = f"{path} must be the configuration that its folder is named after"
                raise UserError(f"{rule}; it differs; remove the folder")
        elif kept:
            raise UserError(f"a run has config.json; {self.folder} lacks it; restore it, or remove the folder")
        if not kept:
            write_json(path, config)

    def _record_start(self, now: dict[str, Any]) -> None:
        """Write environment.json. A run that never reached a checkpoint starts anew, so nothing of it is kept."""
        path = self.folder / "environment.json"
        if self._checkpoint.exists():
            step = from_file(self._checkpoint, plain=True)["step"]
            began = environment_of(self.folder)
            if missing := [key for key in ("commit", "resumed") if key not in began]:
                raise UserError(f"{path} must say {missing[0]}; it does not; restore it, or remove the folder")
            self.resumed = Resumed(now["commit"], now["dirty"], step, began["commit"])
            entry = {key: now[key] for key in ("commit", "dirty", "device", "machine")} | {"step": step}
            now = began | {"resumed": [*began["resumed"], entry]}
        write_sealed(path, {**now, CONFIG: file_digest(self.folder / "config.json")})


def _locked(folder: Path) -> BinaryIO:
    """The open lock file. The system frees it when the process ends, however it ends."""
    lock = open(folder / "lock", "ab")  # noqa: SIM115 (it stays open as long as the run)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UserError(f"a run has one process at a time; {folder} is in use; wait for it or stop it") from error
    return lock
