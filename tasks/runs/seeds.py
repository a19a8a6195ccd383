"""The seeds of a run: every random draw has its own, derived from one number by hashing and never by adding to it."""

from neuromod.seeds import derive, generator

__all__ = ["derive", "generator", "seeds"]

PURPOSES = ("target", "source", "data", "sampling")


def seeds(seed: int) -> dict[str, int]:
    """The independent seeds of a run: of the target, the source, the data and the sampling."""
    return {purpose: derive(purpose, seed) for purpose in PURPOSES}
