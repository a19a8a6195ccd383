"""A store of sealed tasks: a folder with a description and one file a task. The only file of the library that touches the disk.

config.json              format, target (recipe and fingerprint), modulators
README.md                how to load it
tasks/00000042.safetensors   the rows of task 42: its masks, coded, in one tensor; the rest as it is
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from neuromod.bank import coding as codes
from neuromod.bank.schema import FORMAT, build, describe, example
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator, by_site
from neuromod.recipe import Recipe
from neuromod.sources.base import Row
from neuromod.sources.table import Table
from neuromod.target import Target

CONFIG, CARD, TASKS = "config.json", "README.md", "tasks"
NOTE, MASKS, BITS = "task", "masks", "/bits"
SHORT = 16  # digits of a fingerprint in each file


class Store:
    """Sealed tasks on disk. Open one with `Store.open`, make one with `Store.create`.

    A task is one file that is written once, whole or not at all, and never again; reading one does not touch the others.
    Two processes may append at the same time: of two that write one task, the second is refused.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], coding: str) -> None:
        self.folder, self.config, self.coding = folder, config, coding

    @classmethod
    def create(cls, folder: str | os.PathLike[str], model: Modulated, *, coding: str = "smallest") -> Self:
        """A store for the tasks of a model, empty. ``coding``: "raw", "smallest" or "entropy" (`neuromod.bank.coding`)."""
        if coding not in codes.CODINGS:
            raise RefusedError(f"coding must be one of {codes.CODINGS}; got {coding!r}; correct it")
        path, config = Path(folder), json.loads(json.dumps(describe(model) | {"coding": coding}))
        if (path / CONFIG).exists():
            raise RefusedError(f"a store is created once; {path.name!r} is one already; use Store.open")
        (path / TASKS).mkdir(parents=True, exist_ok=True)
        _write(path / CARD, _card(config).encode())
        _write(path / CONFIG, json.dumps(config, indent=1).encode())
        return cls(path, config, coding)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """An existing store."""
        path = Path(folder)
        if not (path / CONFIG).is_file():
            raise RefusedError(f"a store is a folder with {CONFIG}; {path.name!r} has none; pass the folder of a store")
        try:
            config = json.loads((path / CONFIG).read_bytes())
            version, coding = config["format"], config["coding"]
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(f"{CONFIG} must describe a store; got {error!r}; restore the file") from error
        if not isinstance(version, int) or version > FORMAT:
            raise RefusedError(f"this version reads stores up to format {FORMAT}; got {version!r}; update neuromod")
        return cls(path, config, coding)

    def tasks(self) -> tuple[int, ...]:
        """The stored tasks, in order."""
        names = (p.stem for p in (self.folder / TASKS).glob("*.safetensors"))
        return tuple(sorted(int(name) for name in names if name.isdigit()))

    def __len__(self) -> int:
        return len(self.tasks())

    def __contains__(self, task: int) -> bool:
        return self._file(task).exists()

    def bytes(self) -> int:
        """Bytes of all task files."""
        return sum(self._file(task).stat().st_size for task in self.tasks())

    def append(self, model: Modulated, task: int) -> None:
        """Write a sealed task of a model; no other file is touched."""
        self._fits(model)
        row: Row = {}
        masks, note = [], []
        for name, modulator in model.named_modulators().items():
            if task not in modulator.sealed.places:
                raise RefusedError(f"a store takes sealed tasks; task {task} is live; call model.seal({task}) first")
            start = _start(modulator, task)
            for key, value in modulator.sealed.row(task).items():
                here = value.detach().cpu()
                if key.endswith(BITS):
                    code, data = codes.encode(here, start.get(key), self.coding)
                    masks.append(torch.frombuffer(bytearray(data), dtype=torch.uint8))
                    note.append([f"{name}/{key}", code, len(data), here.numel()])
                else:
                    _refuse_nan(here, f"{name}/{key}", task)
                    row[f"{name}/{key}"] = here.contiguous()
        if masks:
            row[MASKS] = torch.cat(masks)
        said = {"v": FORMAT, "f": self._fingerprint(), "c": note}
        said["d"] = _digest(task, said, row)
        content = save(row, {NOTE: json.dumps(said, separators=(",", ":"))})
        if not _write(self._file(task), content, once=True):
            raise RefusedError(f"a task is stored once; task {task} is there already; pick an id that is free")

    def read(self, task: int) -> tuple[Row, list[tuple[str, str, int, int]]]:
        """A task's tensors as they lie in its file, checked, and (name, code, coded bytes, bytes) of each in ``masks``."""
        file = self._file(task)
        if not file.exists():
            raise RefusedError(f"a task must be stored to be read; task {task} is not; stored are {_few(self.tasks())}")
        try:
            with safe_open(file, "pt") as content:
                said = json.loads((content.metadata() or {})[NOTE])
                row = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (not a dict)
            version, fingerprint, digest, note = said["v"], said["f"], said.pop("d"), said["c"]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefusedError(f"{file.name} must be the file of a task; got {error!r}; restore it") from error
        if not isinstance(version, int) or version > FORMAT:
            raise RefusedError(
                f"this version reads tasks up to format {FORMAT}; {file.name} has {version}; update neuromod"
            )
        if fingerprint != self._fingerprint():
            raise RefusedError(
                f"a task belongs to the store's target, {self._fingerprint()}; {file.name} is of {fingerprint}; put it back"
            )
        if digest != _digest(task, said, row):
            raise RefusedError(f"{file.name} must hold what was written; its digest differs: it is damaged; restore it")
        return row, [(name, code, length, size) for name, code, length, size in note]

    def rows(self, model: Modulated, task: int) -> dict[str, Row]:
        """The rows of a task by modulator, masks packed, on the CPU."""
        self._fits(model)
        held, note = self.read(task)
        coded = held.pop(MASKS, torch.empty(0, dtype=torch.uint8)).split([length for _, _, length, _ in note])
        found: dict[str, Row] = {}
        for name, modulator in model.named_modulators().items():
            own = f"{name}/"
            found[name] = {key.removeprefix(own): value for key, value in held.items() if key.startswith(own)}
            masks = [(one, data) for one, data in zip(note, coded, strict=True) if one[0].startswith(own)]
            start = _start(modulator, task) if any(one[1].startswith(codes.FLIPS) for one, _ in masks) else {}
            for (full, code, _, size), data in masks:
                key = full.removeprefix(own)
                found[name][key] = codes.decode(code, data, size, start.get(key))
        return found

    def load(self, model: Modulated, tasks: Iterable[int] | None = None) -> None:
        """Seal stored tasks into a model: all, or those that are named."""
        for task in self.tasks() if tasks is None else tasks:
            rows = self.rows(model, task)
            for name, modulator in model.named_modulators().items():
                where = modulator.like.device
                modulator.sealed.seal(task, {key: value.to(where) for key, value in rows[name].items()})

    def _file(self, task: int) -> Path:
        return self.folder / TASKS / f"{task:08d}.safetensors"

    def _fingerprint(self) -> str:
        return str(self.config["target"]["fingerprint"])[:SHORT]

    def _fits(self, model: Modulated) -> None:
        theirs, ours = self.config["target"]["fingerprint"], model.target.fingerprint()
        if theirs != ours:
            raise RefusedError(
                f"a store belongs to one target; its fingerprint is {theirs[:12]}, this is {ours[:12]}; pass that target"
            )
        said = json.loads(json.dumps(describe(model)["modulators"]))
        plain = [{k: v for k, v in one.items() if k != "source"} for one in said]
        if plain != [{k: v for k, v in one.items() if k != "source"} for one in self.config["modulators"]]:
            raise RefusedError(
                "a store has the modulators of one model; these differ; see config.json, or make a new store"
            )


def save_pretrained(model: Modulated, folder: str | os.PathLike[str], *, coding: str = "smallest") -> Store:
    """Write the sealed tasks of a model that its store does not hold yet; the store is made where there is none."""
    live = [task for m in model.named_modulators().values() if m.reads == "task" for task in m.source.tasks()]
    if live:
        raise RefusedError(f"a store takes sealed tasks; task {live[0]} is live; call model.seal({live[0]}) first")
    store = Store.open(folder) if (Path(folder) / CONFIG).exists() else Store.create(folder, model, coding=coding)
    present = set(store.tasks())
    for task in (t for t in model.tasks() if t not in present):
        store.append(model, task)
    return store


def from_pretrained(
    folder: str | os.PathLike[str],
    *,
    target: Target | None = None,
    constructor: Callable[..., nn.Module] | None = None,
    tasks: Iterable[int] | None = None,
) -> Modulated:
    """The model of a store with its tasks (all, or those named), sealed.

    Its target is passed, or, where it is random, rebuilt from the stored recipe with the ``constructor`` that is passed;
    its fingerprint must be that of the store. Kinds come from a closed table; nothing that the file names is imported.
    """
    store = Store.open(folder)
    described = store.config["target"]
    if target is None:
        recipe = described["recipe"]
        if recipe is None or constructor is None:
            made = "is not random" if recipe is None else f"was made by {recipe['constructor']!r}"
            remedy = "target=" if recipe is None else "constructor= (that function) or target="
            raise RefusedError(f"a store does not hold its target, which {made}; pass {remedy}")
        built = Recipe(constructor, **{key: value for key, value in recipe.items() if key != "constructor"})
        target = Target.from_recipe(built, example(store.config), **described["options"])
    if target.fingerprint() != described["fingerprint"]:
        theirs, ours = described["fingerprint"][:12], target.fingerprint()[:12]
        raise RefusedError(
            f"a store belongs to one target; its fingerprint is {theirs}, this is {ours}; pass that target"
        )
    model = build(store.config, target)
    store.load(model, tasks)
    return model.eval()


def _start(modulator: Modulator, task: int) -> Row:
    """The packed masks that the scores of a task start from; none where tasks share a source or nothing is packed."""
    if not isinstance(modulator.source, Table) or not modulator.kind.learned:
        return {}
    raws = by_site(modulator.start(task))
    frozen = {f"{s.label}/{p}": v for s in modulator.sites for p, v in modulator.kind.freeze(s, raws[s.label]).items()}
    return {key: value.cpu() for key, value in frozen.items() if key.endswith(BITS)}


def _refuse_nan(value: Tensor, key: str, task: int) -> None:
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise RefusedError(f"numbers at rest are finite; {key} of task {task} is not; train or calibrate it again")


def _digest(task: int, said: Mapping[str, Any], row: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(f"{task}|{said['v']}|{said['f']}|{said['c']}".encode())
    for key, value in sorted(row.items()):
        digest.update(f"{key}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _write(path: Path, content: bytes, *, once: bool = False) -> bool:
    """Whole or not at all; with ``once``, False where the file is there already, which is then left as it is."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if once:
            # A link, unlike a rename, never takes the place of a file.
            os.link(temporary, path)
        else:
            os.replace(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _few(tasks: tuple[int, ...]) -> str:
    return f"{list(tasks[:8])}{' ...' if len(tasks) > 8 else ''}"


def _card(config: Mapping[str, Any]) -> str:
    kinds = ", ".join(f"{one['kind']['name']} at {len(one['sites'])} sites" for one in config["modulators"])
    recipe = config["target"]["recipe"]
    made = (
        "the network that was passed"
        if recipe is None
        else f"a random network, `{recipe['constructor']}`, seed {recipe['seed']}"
    )
    how = "target=target" if recipe is None else "constructor=FUNCTION"
    return f"""# Sealed tasks over one frozen network

{kinds}; over {made}, fingerprint {config["target"]["fingerprint"][:12]}. One file a task in `tasks/`, masks at one bit a weight or
less (coding: {config["coding"]}).

```python
from neuromod import from_pretrained
model = from_pretrained("THIS FOLDER", {how})
model(x, task=0)
```
"""
