"""A small image set on disk: one noisy prototype a class, so that a tiny network can learn it."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tasks.meta.pools import Pool


def drawn(count: int, classes: int, side: int, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels (N,) that go round the classes."""
    rng = torch.Generator().manual_seed(0)
    prototypes = torch.randint(0, 256, (classes, channels, side, side), generator=rng)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 256, (count, channels, side, side), generator=rng.manual_seed(seed))
    return ((2 * prototypes[labels] + noise) // 3).to(torch.uint8), labels


def write(
    root: Path, name: str = "tiny", *, classes: int = 10, side: int = 8, channels: int = 1, train: int = 80
) -> Path:
    """ROOT/NAME.safetensors as `tasks.data.load.load` reads it; returns the root."""
    images, labels = drawn(train, classes, side, channels, 1)
    test_images, test_labels = drawn(train // 2, classes, side, channels, 2)
    tensors = {"train.images": images, "train.labels": labels, "test.images": test_images, "test.labels": test_labels}
    names = json.dumps([f"{'ab'[i % 2]}/class {i}" for i in range(classes)])
    root.mkdir(parents=True, exist_ok=True)
    save_file(tensors, root / f"{name}.safetensors", metadata={"classes": names})
    return root


def draw_pool(classes: int = 6, each: int = 5) -> Pool:
    """A pool of noise, 28 x 28."""
    images = torch.randint(0, 256, (classes, each, 1, 28, 28), generator=torch.Generator().manual_seed(3))
    return Pool(images.to(torch.uint8), tuple(f"class {c}" for c in range(classes)))
