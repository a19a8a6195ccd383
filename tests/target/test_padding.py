"""torch's encoder with padding: a model puts out what the user's network does, with and without gradients."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, Table, Target
from neuromod.bake import bake

X = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
KEEP = torch.tensor([5, 3, 2, 4])
PADDING = torch.arange(5) >= KEEP[:, None]
RIGHT = PADDING.flip(1)


class Net(nn.Module):
    """An encoder and a mean over all places, padded ones too: it tells zeros from numbers."""

    def __init__(self, *, norm: bool = False, nested: bool = True, check: bool = True, look_back: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        end = nn.LayerNorm(8) if norm else None
        self.encoder = nn.TransformerEncoder(layer, 2, end, enable_nested_tensor=nested, mask_check=check)
        self.look_back, self.head = look_back, nn.Linear(8, 3)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.1, 0.5)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        mask = torch.zeros(5, 5, dtype=torch.bool) if self.look_back else None
        return self.head(self.encoder(x, mask=mask, src_key_padding_mask=padding).mean(1))


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def modulated(net: nn.Module) -> Modulated:
    target = Target(net, (X, PADDING))
    return Modulated(target, Modulator(Affine(), Table(2), target.outputs("encoder.layers.0.norm1"), seed=0)).eval()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("padding", [PADDING, RIGHT], ids=["behind", "in front"])
@pytest.mark.parametrize("options", [{}, {"norm": True}, {"nested": False}, {"look_back": True}], ids=str)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_model_is_the_users_network_at_padded_places(padding: Tensor, options: dict[str, bool], frozen: bool) -> None:
    net = Net(**options).eval().requires_grad_(not frozen)
    model = modulated(net)
    for model_ in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            assert same(model_(X, padding, task=0), net(X, padding))
            assert same(model_(X, padding, task=[0, 1, 0, 1]), net(X, padding))
    assert same(model.target(X, padding), net(X, padding))
    # With gradients both compute every place; torch does so where any tensor learns.
    assert same(model(X, padding, task=0), net.requires_grad_(True)(X, padding))
    baked = bake(model, task=0)
    assert type(baked) is Net
    assert not any(layer._forward_hooks for layer in baked.encoder.layers)
    with torch.no_grad():
        assert same(baked(X, padding), net(X, padding))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_an_encoder_that_checks_no_mask() -> None:
    net = Net(check=False, norm=True).eval()
    with torch.no_grad():
        assert same(modulated(net)(X, PADDING, task=0), net(X, PADDING))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_zeros_are_what_makes_the_difference() -> None:
    net = Net().eval()
    with torch.no_grad():
        plain = net(X, PADDING)
    assert not same(plain, net(X, PADDING))
