"""One task as tensors and one line of metadata: what a task file holds, and the proof that it holds nothing else."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuromod.bank import coding
from neuromod.bank.config import FORMAT, Config, most, refuse_target
from neuromod.bank.schema import Record
from neuromod.errors import RefusedError
from neuromod.kinds.bits import packed_size
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator
from neuromod.sources.base import Row
from neuromod.target.sites import Site

KEY = "neuromod"
"""One key of metadata: safetensors writes several in any order, and equal tasks should be equal files."""
MASK = "bits"
Packed = tuple[Row, dict[str, str]]


def pack(config: Config, model: Modulated, task: int) -> Packed:
    """The tensors ``modulator/site/part`` and the metadata of a sealed task: the content of its file.

    Args:
        config: of the store.
        model: in which the task is sealed.
        task: its id.

    """
    rows = {
        name: {key: value.cpu().contiguous() for key, value in modulator.sealed.row(task).items()}
        for name, modulator in model.readers("task").items()
    }
    tensors: Row = {}
    codes: dict[str, str] = {}
    for record in _stored(config):
        record.check(rows[record.name], f"task {task}")
        starts = _starts(model.named_modulators()[record.name], task, rows[record.name], config.coding)
        for key, value in rows[record.name].items():
            site, part = _place(record, key)
            blob = value
            if part == MASK:
                code, data = coding.encode(
                    _bytes(value), _bits(record, site), starts.get(key), config.coding, _width(record, site)
                )
                if code != "raw":
                    codes[f"{record.name}/{key}"], blob = code, _tensor(data)
            tensors[f"{record.name}/{key}"] = blob
    fingerprint = config.target.fingerprint
    said = {"format": FORMAT, "task": task, "target": fingerprint, "sha256": digest(task, fingerprint, rows)}
    return tensors, {KEY: json.dumps(said | {"codes": codes}, separators=(",", ":"))}


def unpack(
    config: Config, model: Modulated | None, task: int, tensors: Row, metadata: Mapping[str, str] | None
) -> dict[str, Row]:
    """The rows of a task by modulator; refuses a byte that is not as it was written.

    Masks that are not coded are the tensors themselves, without a copy.

    Args:
        config: of the store.
        model: draws the start that a mask may be coded against; None where none is.
        task: its id.
        tensors: of its file.
        metadata: of its file.

    """
    said = _said(config, task, metadata)
    if model is None:
        _refuse_bomb(config, task, tensors, said["codes"])
    rows: dict[str, Row] = {record.name: {} for record in _stored(config)}
    try:
        for record in _stored(config):
            head = f"{record.name}/"
            own = {key.removeprefix(head): value for key, value in tensors.items() if key.startswith(head)}
            coded = {key: said["codes"].pop(head + key, "raw") for key in own}
            starts = _needed_starts(record, model, task, own, coded)
            for key, value in own.items():
                rows[record.name][key] = _decoded(record, key, value, coded[key], starts.get(key))
            record.check(rows[record.name], f"task {task}")
        whole = not said["codes"] and sum(map(len, rows.values())) == len(tensors)
        whole = whole and digest(task, said["target"], rows) == said["sha256"]
    except (coding.BlobError, KeyError, TypeError, AttributeError) as error:
        raise damaged(task, str(error) or type(error).__name__) from error
    if not whole:
        raise damaged(task, "its SHA-256 is another one")
    return rows


def _refuse_bomb(config: Config, task: int, tensors: Row, codes: Mapping[str, Any]) -> None:
    """Refuse a file whose masks, at the sizes that the config says, would be far larger than it; a model vouches for its own."""
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    sizes = {f"{r.name}/{s.label}/{MASK}": packed_size(*r.made.digits(s)) for r in _stored(config) for s in r.sites}
    promised = sum(sizes[key] for key in codes if key in sizes)
    strange = [r for r in _stored(config) if r.strange]
    promised += sum(4 * math.prod(shape) for r in strange for s in r.sites for shape in r.made.shapes(s).values())
    if promised > most(size):
        raise damaged(task, f"{size} bytes would become {promised}; if that is right, pass model=")


def digest(task: int, fingerprint: str, rows: Mapping[str, Row]) -> str:
    """SHA-256 of the decoded rows, so that it holds for whatever code, and for the start that a mask is coded against.

    Args:
        task: its id.
        fingerprint: of the target.
        rows: by modulator.

    """
    sha = hashlib.sha256(f"{FORMAT}|{task}|{fingerprint}|".encode())
    for name, row in sorted(rows.items()):
        for key, value in sorted(row.items()):
            sha.update(f"{name}/{key}|{value.dtype}|{tuple(value.shape)}|".encode())
            sha.update(_array(value).data)
    return sha.hexdigest()


def damaged(task: int, why: str) -> RefusedError:
    """The refusal of a task file."""
    return RefusedError(f"a task is read as it was written; the file of task {task} is damaged ({why}); restore it")


def _said(config: Config, task: int, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        said = json.loads((metadata or {})[KEY])
        number, fingerprint = said["format"], said["target"]
        if number != FORMAT:
            raise RefusedError(
                f"this neuromod reads tasks of format {FORMAT}; task {task} is of {number!r}; install a newer one"
            )
        if said["task"] != task or not isinstance(said["codes"], dict):
            raise ValueError(f"it says that it is of task {said['task']!r}")
    except RefusedError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(task, f"or not written by neuromod: {error}") from error
    if fingerprint != config.target.fingerprint:
        refuse_target(str(fingerprint), config.target.fingerprint)
    return said  # type: ignore[no-any-return]


def _decoded(record: Record, key: str, value: Tensor, code: str, start: bytes | None) -> Tensor:
    if code == "raw":
        return value
    site, part = _place(record, key)
    if part != MASK:
        raise coding.BlobError(f"{key!r} is no mask")
    return _tensor(coding.decode(code, _bytes(value), _bits(record, site), start, _width(record, site)))


def _needed_starts(
    record: Record, model: Modulated | None, task: int, own: Row, coded: Mapping[str, str]
) -> dict[str, bytes]:
    if not any(code.startswith("start+") for code in coded.values()):
        return {}
    if model is None:
        raise RefusedError(
            f"masks of task {task} are written as what moved since its start, which a model draws; got none; pass model="
        )
    return _starts(model.named_modulators()[record.name], task, own, "smallest")


def _starts(modulator: Modulator, task: int, row: Row, how: str) -> dict[str, bytes]:
    """The masks that a task started at, packed; nothing where there are none or nobody asks."""
    if how == "raw" or not any(key.endswith(f"/{MASK}") for key in row):
        return {}
    with torch.no_grad():
        return {key: _bytes(value) for key, value in modulator.frozen(modulator.start(task)).items()}


def _stored(config: Config) -> list[Record]:
    return [record for record in config.modulators if record.reads == "task"]


def _place(record: Record, key: str) -> tuple[Site, str]:
    label, _, part = key.rpartition("/")
    site = next((site for site in record.sites if site.label == label), None)
    if site is None:
        raise coding.BlobError(f"{record.name!r} has no site {label!r}")
    return site, part


def _bits(record: Record, site: Site) -> int:
    """Bits of a mask: one for each place, or those of the bytes that hold its digits."""
    count, base = record.made.digits(site)
    return count if base == 2 else 8 * packed_size(count, base)


def _width(record: Record, site: Site) -> int:
    """Columns of a mask that is a matrix of bits; one column where it is none."""
    whole = record.made.digits(site) == (math.prod(site.shape), 2)
    return site.fan_in if len(site.shape) > 1 and whole else 1


def _array(value: Tensor) -> "np.ndarray[Any, Any]":
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _bytes(value: Tensor) -> bytes:
    return _array(value).tobytes()


def _tensor(data: bytes | bytearray) -> Tensor:
    # Bytes can't be written to and are copied; what was decoded is nobody else's.
    return torch.frombuffer(data if isinstance(data, bytearray) else bytearray(data), dtype=torch.uint8)
