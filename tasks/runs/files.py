"""Files that are either whole or absent, and JSON that every reader accepts."""

import hashlib
import json
import math
import os
import secrets
from os import PathLike
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp"


def write_atomic(path: str | PathLike[str], content: str | bytes) -> None:
    """Write a file so that a reader, or a machine that stops half way, sees the old content or the new, never a part.

    The temporary file lies in the same folder (os.replace is atomic within one file system only).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def strict(value: Any, where: str = "value") -> Any:
    """The value as strict JSON data: tuples, arrays and tensors become lists; nan, inf and -inf become those strings.

    JSON has no such numbers; `float("nan")` reads the strings back. TypeError for a key that is not a string (JSON
    would turn 1 into "1" without a word) and for anything else that JSON does not know.
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"keys of a JSON record are strings; got {key!r} in {where}; write str(key)")
        return {key: strict(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "tolist"):  # tensors, numpy arrays and numpy scalars
        return strict(value.tolist(), where)
    raise TypeError(
        f"a JSON record holds numbers, strings, lists and dicts; got {type(value).__name__} in {where}; convert it"
    )


def rounded(values: Any) -> Any:
    """A tensor (R, C) as rows of numbers of four decimals, for a record that people read."""
    return [[round(v, 4) for v in row] for row in values.double().tolist()]


def dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON text, by the convention of `strict`."""
    return json.dumps(strict(value), indent=indent, allow_nan=False, ensure_ascii=False)


def canonical(value: Any) -> str:
    """Strict JSON text that equal values share whatever their order of keys: what is hashed."""
    return json.dumps(strict(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def read_json(path: str | PathLike[str]) -> Any:
    """The content of a JSON file. OSError where it is absent, ValueError where it is not JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_json(path: str | PathLike[str], value: Any) -> None:
    """Write strict JSON for people to read, atomically."""
    write_atomic(path, dumps(value, indent=2) + "\n")


def digest(content: str | bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def file_digest(path: str | PathLike[str]) -> str:
    """SHA-256 of a file in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
