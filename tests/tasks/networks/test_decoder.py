"""A decoder makes images from 0 to 1 of the shape that is asked for."""

import pytest
import torch

from neuromod import Target
from tasks.networks import decoder


@pytest.mark.parametrize(("shape", "blocks"), [((1, 14, 14), 1), ((3, 8, 6), 0), ((1, 4, 4), 2)])
def test_images_have_the_shape(shape: tuple[int, int, int], blocks: int) -> None:
    net = decoder(shape, 5, 4, blocks).eval()
    made = net(torch.randn(3, 5)).detach()
    assert made.shape == (3, *shape)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert len(Target(net, torch.randn(2, 5)).norms()) == 1 + blocks
