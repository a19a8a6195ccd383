"""`Store`: a folder of sealed tasks, one file each; the only file of the library that touches the disk."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from neuromod.arguments import folder_path, instance, one_of, task_id, task_ids
from neuromod.bank import card, entry
from neuromod.bank.classes import Classes
from neuromod.bank.coding import CODINGS
from neuromod.bank.config import Config, TargetRecord
from neuromod.bank.schema import Record, shared_state
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.sources.base import Row

CONFIG, CARD, SHARED, TASKS = "config.json", "README.md", "shared.safetensors", "tasks"
TASK = re.compile(r"(0|[1-9][0-9]*)\.safetensors")


class Store:
    """A folder of sealed tasks of one model: ``config.json``, ``tasks/<id>.safetensors``, and what serves all tasks.

    A task is one file, written once: it is read without the others, and no append touches another file. A file appears
    under its name when it is whole, and never takes the place of one that is there, so that of two writers of a task
    one is refused and nothing is lost. Needs a file system with hard links.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    @classmethod
    def create(cls, folder: str | os.PathLike[str], model: Modulated, *, coding: str = "smallest") -> "Store":
        """A store without tasks for the tasks of ``model``. Refused: a folder that holds a store, or a README already.

        Args:
            folder: to make.
            model: says the target, the modulators and what serves all tasks.
            coding: of masks: "smallest" (of what the standard library offers), "raw" (one bit per weight, read without any work) or
                "entropy" (a range coder as well; needs the package constriction).

        """
        instance(model, Modulated, "model")
        path = folder_path(folder)
        one_of(coding, "coding", CODINGS)
        there = next((name for name in (CONFIG, CARD) if (path / name).exists()), None)
        if there is not None:
            raise _taken(path, there)
        shared = save(shared_state(model))
        store = cls(path, _config(model, coding))
        text = store.config.dumps()
        try:
            with written(path / TASKS):
                (path / TASKS).mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise _taken(path, TASKS) from error
        if store.config.shared is not None:
            _write(path / SHARED, shared, replace=True)
        # Last, for a folder is a store once it has a config.
        try:
            _write(path / CONFIG, text.encode())
        except FileExistsError as error:
            raise _taken(path, CONFIG) from error
        store.describe()
        return store

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, classes: Iterable[Any] | Classes = ()) -> "Store":
        """The store in a folder; reads ``config.json`` alone.

        ``classes`` are the kinds, sources and body functions of your own that the store names, as in `from_pretrained`.
        """
        path = folder_path(folder)
        try:
            text = (path / CONFIG).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RefusedError(
                f"a store is a folder with a {CONFIG}; {str(path)!r} is none; make one with save_pretrained(model, folder)"
            ) from error
        except OSError as error:
            raise RefusedError(
                f"a store is read from its {CONFIG}; {str(path / CONFIG)!r} can't be ({error.strerror}); restore it"
            ) from error
        return cls(path, Config.loads(text, str(path / CONFIG), Classes.of(classes)))

    @staticmethod
    def exists(folder: str | os.PathLike[str]) -> bool:
        """Whether a folder is a store."""
        return (folder_path(folder) / CONFIG).is_file()

    def __len__(self) -> int:
        return len(self.tasks())

    def __contains__(self, task: object) -> bool:
        try:
            return self._path(task_id(task)).is_file()
        except RefusedError:
            return False

    def tasks(self) -> tuple[int, ...]:
        """The tasks in the store now, in order."""
        try:
            names = os.listdir(self.folder / TASKS)
        except FileNotFoundError:
            return ()
        return tuple(sorted(int(found[1]) for found in map(TASK.fullmatch, names) if found))

    def bytes_on_disk(self) -> int:
        """Bytes of all files of the store (their lengths, not the blocks that a file system gives them)."""
        files = [self.folder / name for name in (CONFIG, CARD, SHARED)] + [self._path(task) for task in self.tasks()]
        return sum(file.stat().st_size for file in files if file.is_file())

    def append(self, model: Modulated, task: int) -> None:
        """Write a task that is sealed in ``model``: one new file."""
        task = task_id(task)
        self.check(model)
        readers = model.readers("task")
        if not readers:
            raise RefusedError(
                f"a task is stored where a modulator reads it; got task {task} and none does; drop append()"
            )
        missing = next((name for name, m in readers.items() if task not in m.sealed.places), None)
        if missing is not None:
            raise RefusedError(
                f"a store holds sealed tasks; task {task} is not sealed in {missing!r}; call model.seal({task}) first"
            )
        tensors, metadata = entry.pack(self.config, model, task)
        try:
            _write(self._path(task), save(tensors, metadata))
        except FileExistsError as error:
            raise RefusedError(
                f"a stored task is never overwritten; task {task} is in {str(self.folder)!r}; pick an id that is free"
            ) from error

    def read(self, task: int, model: Modulated | None = None) -> dict[str, Row]:
        """The rows of one task by modulator, checked against their SHA-256; raw masks are mapped from the file.

        Masks that are written as what moved since the task's start need the ``model`` that draws the start.
        """
        if model is not None:
            self.check(model)
        return self._read(task, model)

    def load(self, model: Modulated, tasks: Iterable[int] | None = None) -> None:
        """Seal the rows of tasks (all, if None) into ``model``, in order; stops at the first that is refused."""
        self.check(model)
        modulators = model.named_modulators()
        known = {task: name for name, modulator in modulators.items() for task in modulator.tasks()}
        for task in self.tasks() if tasks is None else task_ids(tasks):
            if task in known:
                raise RefusedError(
                    f"a task is loaded once; {known[task]!r} has task {task} already; load into a model without it"
                )
            for name, row in self._read(task, model).items():
                like = modulators[name].like
                modulators[name].sealed.seal(task, {key: value.to(like.device) for key, value in row.items()})
                known[task] = name

    def shared(self) -> Row:
        """What serves all tasks, by ``modulator/key``; {} where every source reads the task or has no state."""
        if self.config.shared is None:
            return {}
        path = self.folder / SHARED
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != self.config.shared:
            raise RefusedError(
                f"{SHARED} is read as it was written; that of {str(self.folder)!r} is damaged; restore it"
            )
        return load(data)

    def describe(self) -> None:
        """Write ``README.md`` anew: what is here now, and how to load it."""
        text = card.text(self.config, self.tasks(), self.bytes_on_disk())
        _write(self.folder / CARD, text.encode(), replace=True)

    def _read(self, task: int, model: Modulated | None) -> dict[str, Row]:
        task = task_id(task)
        if task not in self:
            known = self.tasks()
            shown = f"{list(known[:8])}{' ...' if len(known) > 8 else ''}"
            raise RefusedError(
                f"a task must be in the store; got {task!r}; it holds {shown if known else 'none'}; append it"
            )
        try:
            with safe_open(self._path(task), framework="pt") as file:
                metadata = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError, OSError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise RefusedError(f"{entry.damaged(task, why)} (in {str(self._path(task))!r})") from error
        try:
            return entry.unpack(self.config, model, task, tensors, metadata)
        except RefusedError as error:
            raise RefusedError(f"{error} (in {str(self._path(task))!r})") from error

    def check(self, model: Modulated) -> None:
        """Refuse a model that this store is not of."""
        instance(model, Modulated, "model")
        ours, theirs = self.config, _config(model, self.config.coding)
        ours.target.check(model.target)
        if ours.modulators != theirs.modulators:
            told, given = ([f"{m.name}: {m.kind} x {m.source}" for m in c.modulators] for c in (ours, theirs))
            raise RefusedError(
                f"a store is of one set of modulators, their sites and seeds included; it has {', '.join(told)}, this model "
                f"{', '.join(given)}; make the same ones, or another store"
            )
        if ours.shared != theirs.shared:
            raise RefusedError(
                "what serves all tasks stays as it was when the store was made; in this model it has moved; save it to another "
                "folder"
            )

    def _path(self, task: int) -> Path:
        return self.folder / TASKS / f"{task}.safetensors"


def _taken(path: Path, name: str) -> RefusedError:
    return RefusedError(
        f"a new store wants a folder of its own; {str(path)!r} has a {name}; open it, or choose another"
    )


def _config(model: Modulated, coding: str) -> Config:
    state, classes = shared_state(model), Classes.of_model(model)
    digest = hashlib.sha256(save(state)).hexdigest() if state else None
    records = tuple(Record.of(name, modulator, classes) for name, modulator in model.named_modulators().items())
    return Config(coding, TargetRecord.of(model.target), records, digest)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Refuse in one line what the file system does not let be written; a file that is there already is its own error."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise RefusedError(
            f"a store is written file by file, each whole; {str(path)!r} can't be ({error.strerror or error}); make room, or choose "
            "another folder"
        ) from error


def _write(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file that is whole or absent; FileExistsError where there is one, unless it may be replaced.

    The name is given by a link, which never overwrites and of two writers lets one succeed.
    """
    with written(path):
        _write_whole(path, content, replace)


def _write_whole(path: Path, content: bytes, replace: bool) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
