"""The digits of scikit-learn as an image set."""

import torch

from tasks.data.load import load


def test_the_division_and_the_pixels_are_fixed() -> None:
    found = load("optical_digits")
    assert (len(found.train_labels), len(found.test_labels), found.shape) == (1297, 500, (1, 8, 8))
    assert (int(found.train_images.min()), int(found.train_images.max())) == (0, 255)
    assert found.substitute is None
    assert found.train_labels.unique().tolist() == list(range(10))
    assert torch.equal(found.train_images, load("optical_digits").train_images)
    assert found.sha256 == load("optical_digits").sha256
