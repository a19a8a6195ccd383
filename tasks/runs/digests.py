"""Digests of what a run leaves behind, checked when it is read: a bit that turned on a disk is never taken for a number.

A file may hold its own SHA-256, taken with zeros in the digest's place, or another file may hold it. Files of before there
were digests have none, and are read as they are.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.runs.files import dumps, write_atomic

KEY, CONFIG = "sha256", "config_sha256"
ZEROS = b"0" * 64
BEFORE = b'{\n  "sha256": "'
# Of config.json and environment.json: a hundred times what a run writes, and little to read or to print.
MOST_BYTES, MOST_DEEP = 262_144, 32
REMEDY = "restore it, or remove the folder and run again"


def sealed(content: bytes, before: bytes) -> bytes:
    """The content with its own digest in the place of the zeros that stand behind some bytes."""
    place = content.index(before + ZEROS) + len(before)
    return content[:place] + hashlib.sha256(content).hexdigest().encode() + content[place + len(ZEROS) :]


def own_digest(head: bytes, before: bytes, rest: Iterable[bytes] = ()) -> tuple[str, str]:
    """The digest that a file holds behind some bytes of its head, and the one that it should hold; ('', '') without one.

    Args:
        head: the first bytes of the file.
        before: what stands before the digest.
        rest: what follows the head, in order.

    """
    place = head.find(before)
    if place < 0:
        return "", ""
    first, last = place + len(before), place + len(before) + len(ZEROS)
    return head[first:last].decode("latin-1"), digest_of(chain((head[:first], ZEROS, head[last:]), rest))


def digest_of(parts: Iterable[bytes]) -> str:
    """SHA-256 in hex of some bytes in a row."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON record that holds its own digest, as its first key."""
    text = dumps({KEY: ZEROS.decode(), **value}, indent=2) + "\n"
    write_atomic(path, sealed(text.encode(), BEFORE))


def read_sealed(path: Path, old: bool = False) -> dict[str, Any]:
    """A JSON record of `write_sealed`, without its digest. UserError where it is not what was written.

    Args:
        path: of the file.
        old: whether such a file may be of before there were digests, when it had none.

    """
    content = _bytes(path)
    record = parsed(content, path)
    held, right = own_digest(content, BEFORE)
    # A record that names another file's digest was written with one of its own.
    if held != right or (KEY not in record and not (old and CONFIG not in record)):
        raise UserError(_differs(path))
    record.pop(KEY, None)
    return record


def read_bounded(path: Path, wanted: str | None = None) -> dict[str, Any]:
    """A JSON record of another program or another day: UserError where it is too long or too deep, or not as ``wanted``.

    Args:
        path: of the file.
        wanted: its SHA-256; None: nobody knows it.

    """
    content = _bytes(path)
    check(path, content, wanted)
    return parsed(content, path)


def check(path: Path, content: bytes, wanted: str | None) -> None:
    """Refuse content that has another digest than the one that was written beside it.

    Args:
        path: of the file, for the words of a refusal.
        content: as it was read.
        wanted: its SHA-256; None: nobody knows it.

    """
    if wanted is not None and digest_of([content]) != wanted:
        raise UserError(_differs(path))


def parsed(content: bytes, path: Path) -> dict[str, Any]:
    """A JSON object. UserError where the content is none."""
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        said = (
            "nests too deep" if isinstance(error, RecursionError) else "is no JSON" if content.strip() else "is empty"
        )
        raise UserError(f"{path} must be a JSON record of a run; it {said}; {REMEDY}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} must be a JSON record of a run; it holds a {type(found).__name__}; {REMEDY}")
    return found


def _bytes(path: Path) -> bytes:
    """The bytes of a record, bounded before they are read."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{path} must be a record of {MOST_BYTES:,} bytes at most; it has {size:,}; {REMEDY}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"a run has {path.name}; {path.parent} lacks it; {REMEDY}") from error
    if _depth(content) > MOST_DEEP:
        raise UserError(f"{path} must nest {MOST_DEEP} deep at most; it nests deeper; {REMEDY}")
    return content


def _depth(content: bytes) -> int:
    """How deep brackets nest outside of strings."""
    deepest = now = 0
    for mark in re.sub(rb'"(?:[^"\\]|\\.)*"|[^][{}"]+', b"", content):
        now += 1 if mark in b"[{" else -1 if mark in b"]}" else 0
        deepest = max(deepest, now)
    return deepest


def _differs(path: Path) -> str:
    return f"{path} must be as it was written; its SHA-256 is another; {REMEDY}"
