"""Every random draw has its own seed, derived from one number by hashing and never by adding to it."""

import hashlib
import json

import torch

PURPOSES = ("target", "source", "data", "sampling")


def derive(*parts: str | int) -> int:
    """An integer seed in [0, 2^63) from words and numbers: the first bytes of SHA-256 of their JSON text.

    Seeds that are neighbours give unrelated draws, unlike seed + i, which two runs with neighbouring seeds share.
    torch's CPU generator uses the low 32 bits only, so two of n derived draws coincide with chance n^2 / 2^33.
    """
    text = json.dumps(parts, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """A fresh CPU generator seeded with `derive(*parts)`."""
    return torch.Generator().manual_seed(derive(*parts))


def seeds(seed: int) -> dict[str, int]:
    """The independent seeds of a run: of the target, the source, the data and the sampling."""
    return {purpose: derive(purpose, seed) for purpose in PURPOSES}
