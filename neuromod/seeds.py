"""Random streams derived from one seed: every draw has a generator of its own, named by what it is for."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(*parts: object) -> int:
    """A seed in [0, 2^63) for the draw called by these words and numbers: the first bytes of their SHA-256.

    Neighbouring seeds give unrelated draws, unlike ``seed + i``. torch's CPU generator uses the low 32 bits only, so two of
    n derived draws coincide with chance n^2 / 2^33.
    """
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for the draw called by these words and numbers.

    >>> a, b = generator(0, "start", 3), generator(0, "start", 3)
    >>> bool((torch.rand(4, generator=a) == torch.rand(4, generator=b)).all())
    True
    """
    return torch.Generator(device).manual_seed(derive(*parts))


@contextmanager
def preserved(seed: int | None = None) -> Iterator[None]:
    """The global generators of torch, numpy and `random` as they were, afterwards; inside they start at ``seed``, if one is given.

    For code of others that draws from them: a constructor, a network that is probed.
    """
    numbers, python = np.random.get_state(), random.getstate()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            if seed is not None:
                torch.manual_seed(seed)
                np.random.seed(seed % 2**32)
                random.seed(seed)
            yield
        finally:
            np.random.set_state(numbers)
            random.setstate(python)
