"""The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships (Alpaydin and Kaynak 1998): real data, seconds a run."""

import torch

from tasks.data.image_set import ImageSet, tensor_digest
from tasks.errors import UserError
from tasks.runs.seeds import generator

TEST = 500


def load_optical_digits() -> ImageSet:
    """1,297 train and 500 test images, divided once by a draw; ink from 0 to 16 becomes a byte from 0 to 255."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(
            "data set 'optical_digits' comes with scikit-learn, which is not installed; install it"
        ) from error
    found = load_digits()
    images = torch.from_numpy(found.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(found.target).to(torch.int64)
    order = torch.randperm(len(labels), generator=generator("optical_digits"))
    train, test = order[:-TEST], order[-TEST:]
    tensors = (images[train], labels[train], images[test], labels[test])
    return ImageSet("optical_digits", *tensors, tuple(str(digit) for digit in range(10)), tensor_digest(*tensors))
