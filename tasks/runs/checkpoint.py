"""Any nesting of plain values and tensors as one safetensors file, without pickle.

Tensors lie in the file by their path; the skeleton is JSON in the metadata. JSON knows no tuples, no keys that are
numbers and no nan, so everything but None, bool, int and str is written as a pair [mark, content]:
t tensor by name, f float, d dict as pairs of key and value, l list, u tuple.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tasks.errors import UserError, reason
from tasks.runs.digests import ZEROS, own_digest, sealed

# The one key of the metadata: of files of before there were digests, and of those that hold the SHA-256 of their own bytes.
KEY, SEALED = "tree", "sealed"
BEFORE = b'\\"sha256\\":\\"'
CHUNK = 1 << 20


def to_bytes(tree: Any) -> bytes:
    """The file of a tree; equal trees give equal bytes.

    Dicts become dicts and tuples tuples, whatever their subclass. Tensors are detached, moved to the CPU and
    written one by one: two that share memory come back as two. TypeError for anything else, with its path.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _encode(tree, "", tensors)
    text = json.dumps({"sha256": ZEROS.decode(), "tree": skeleton}, separators=(",", ":"), allow_nan=False)
    # One key only: safetensors writes several in an order that changes from process to process.
    return sealed(save(tensors, metadata={SEALED: text}), BEFORE)


def from_file(path: Path, *, plain: bool = False) -> Any:
    """The tree of a file of `to_bytes`, tensors on the CPU; with `plain` no tensor is read and None stands for each.

    UserError for a file that is not a checkpoint, or not as it was written; one without a digest is read as it is.
    """
    try:
        with safe_open(path, "pt") as content:
            metadata = content.metadata() or {}
            if SEALED in metadata:
                _verify(path)
            skeleton = json.loads(metadata[SEALED])["tree"] if SEALED in metadata else json.loads(metadata[KEY])
            tensors = {name: None if plain else content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        return _decode(skeleton, tensors)
    except UserError:
        raise
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} must be a checkpoint of a run; got {reason(error)}; remove it to start again"
        ) from error


def _verify(path: Path) -> None:
    """Refuse a file whose bytes are not those that its own digest was taken of."""
    with open(path, "rb") as file:
        start = file.read(8)
        head = start + file.read(int.from_bytes(start, "little"))

        def rest() -> Iterator[bytes]:
            while chunk := file.read(CHUNK):
                yield chunk

        held, right = own_digest(head, BEFORE, rest())
    if not held or held != right:
        raise UserError(f"{path} must be as it was written; its SHA-256 is another; remove it to start again")


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return ["f", repr(float(value))]
    if isinstance(value, Tensor):
        return ["t", _put(value, path, tensors)]
    if isinstance(value, dict):
        return ["d", [[_key(key, path), _encode(item, _join(path, key), tensors)] for key, item in value.items()]]
    if type(value) is list:
        return ["l", [_encode(item, _join(path, i), tensors) for i, item in enumerate(value)]]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return ["u", [_encode(item, _join(path, i), tensors) for i, item in enumerate(value)]]
    rule = "a checkpoint holds None, bool, int, float, str, list, tuple, dict and tensors"
    raise TypeError(f"{rule}; got {type(value).__name__} at '{path}'; save its parts")


def _decode(value: Any, tensors: Mapping[str, Tensor | None]) -> Any:
    if not isinstance(value, list):
        return value
    mark, content = value
    if mark == "t":
        return tensors[content]
    if mark == "f":
        return float(content)
    if mark == "d":
        return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return items if mark == "l" else tuple(items)


def _put(tensor: Tensor, path: str, tensors: dict[str, Tensor]) -> str:
    name = path or "tensor"
    # {0: a, "0": b} and {"x/y": a, "x": {"y": b}} have one path for two tensors.
    while name in tensors:
        name += "'"
    # A copy, because safetensors refuses tensors that share memory, as tied weights do.
    tensors[name] = tensor.detach().cpu().contiguous().clone()
    return name


def _key(key: Any, path: str) -> Any:
    if key is None or isinstance(key, bool | int | float | str | tuple):
        return _encode(key, path, {})
    raise TypeError(f"keys of a checkpoint are strings, numbers or tuples; got {key!r} at '{path}'; rename it")


def _join(path: str, part: Any) -> str:
    return f"{path}/{part}" if path else str(part)
