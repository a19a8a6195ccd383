"""Whether `torch.vmap` can run a network: what torch says of each, and what is left of the global state."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuromod import Target
from tests.inference.test_meeting import Gru, Net, centred, chosen, counted


class Counter(nn.Module):
    """Writes a buffer in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        self.seen += h.detach().mean(0)
        return h


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Gru, "gru"),
        (lambda: Net(counted), ".item()"),
        (lambda: Net(chosen), "dynamic shape"),
        (Counter, "output with shape"),
    ],
)
def test_networks_that_vmap_cannot_run(make: Callable[[], nn.Module], words: str) -> None:
    net = make()
    target = Target(net, torch.randn(5, 4, dtype=next(net.parameters()).dtype))
    before = torch.get_rng_state()
    assert target.unmapped is not None
    assert words in target.unmapped
    assert "\n" not in target.unmapped
    assert torch.equal(torch.get_rng_state(), before)
    target.verify()


def test_networks_that_vmap_can_run() -> None:
    for net in (Net(), Net(centred), nn.Sequential(nn.BatchNorm1d(4), nn.Dropout()).double()):
        assert Target(net, torch.randn(5, 4, dtype=torch.float64)).unmapped is None
    both = Target(nn.Bilinear(4, 4, 3), (torch.randn(5, 4), torch.randn(5, 4)))
    assert both.unmapped is None
