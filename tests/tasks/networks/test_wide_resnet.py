"""Wide residual networks: their weights as counted, their shapes, a depth that is none."""

import pytest
import torch
from torch import nn

from tasks.networks import WideResNet


def test_the_weights_of_wrn_22_2() -> None:
    net = WideResNet((3, 32, 32), 10)
    weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sum(w.numel() for w in weights) == 1_076_912
    assert sum(w.shape[2:] == (1, 1) for w in weights) == 3
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_a_block_keeps_what_its_convolutions_do_not_add() -> None:
    net = WideResNet((3, 8, 8), 4, depth=10, width=1).eval()
    block = net.stage2[0]  # type: ignore[index]
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        block.conv2.weight.zero_()
        assert torch.equal(block(x), x)


def test_a_depth_is_six_n_and_four() -> None:
    with pytest.raises(ValueError, match=r"depth must be 6 n \+ 4; got 20; try 16"):
        WideResNet((3, 32, 32), 10, depth=20)
