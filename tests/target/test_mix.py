"""The slot of a tap that mixes channels: at every sort of site, beside the other slots, and folded where that is exact."""

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Conceptor, Gate, Modulated, Modulator, RefusedError, Table, Target, bake
from neuromod.kinds.conceptors import whole
from neuromod.target.taps import mixed
from tests import reference

RNG = torch.Generator().manual_seed(4)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> None:
    assert a.shape == b.shape
    assert float((a - b).detach().abs().max()) < tol


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
        return nn.Sequential(*layers).double().eval()


def model(*kinds: object, at: str) -> Modulated:
    target = Target(network(), randn(5, 2, 4, 4))
    made = Modulated(target, *(Modulator(kind, Table(3), target.outputs(at), seed=i) for i, kind in enumerate(kinds)))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += randn(*parameter.shape)
    return made.eval()


@pytest.mark.parametrize(("channel", "batch"), [(-1, 0), (1, 0), (0, 1), (2, 1)])
def test_every_axis(channel: int, batch: int) -> None:
    h = randn(4, 4, 4)
    one, each = randn(4, 4), randn(4, 4, 4)
    close(mixed(one, h, channel, batch), reference.mixed(h, one, channel))
    rows = mixed(each, h, channel, batch)
    for i in range(4):
        # Of a sample alone the axes behind the batch are one further on.
        axis = channel % 3 - (channel % 3 > batch)
        close(rows.select(batch, i), reference.mixed(h.select(batch, i), each[i], axis))


@pytest.mark.parametrize("at", ["0", "1", "2", "4"])
@pytest.mark.parametrize(
    "kinds", [(Conceptor(), Affine()), (Affine(), Conceptor()), (Gate(), Conceptor(), Affine(), Conceptor())], ids=len
)
def test_modulators_of_one_output_act_in_their_order(at: str, kinds: tuple) -> None:
    made = model(*kinds, at=at)
    x, ids = randn(5, 2, 4, 4), [0, 1, 2, 1, 0]
    found = made(x, task=ids)
    for i, task in enumerate(ids):
        h = x[i : i + 1]
        for name, layer in made.target.pristine.named_children():
            h = layer(h)
            for modulator in made.named_modulators().values() if name == at else ():
                row = {k.partition("/")[2]: v for k, v in modulator.source.own(task).items()}
                if "half" in row:
                    h = reference.mixed(h, reference.conceptor(row["half"], h.shape[1]), 1)
                elif "code" in row:
                    h = reference.gate(h, row["code"], "sigmoid", 1)
                else:
                    h = reference.affine(h, row["gain"], row["bias"], 1)
        close(found[i : i + 1], h)


@pytest.mark.parametrize("kinds", [(Conceptor(),), (Affine(), Conceptor()), (Conceptor(), Affine())], ids=len)
@pytest.mark.parametrize("at", ["0", "4"])
def test_it_is_baked_into_convolutions_and_linear_layers(kinds: tuple, at: str) -> None:
    made = model(*kinds, at=at)
    x = randn(5, 2, 4, 4)
    plain = bake(made, task=1)
    close(plain(x), made(x, task=1))
    assert list(plain.state_dict()) == list(network().state_dict())


@pytest.mark.parametrize(("at", "words"), [("1", "BatchNorm2d whose channels are mixed"), ("2", "ReLU")])
def test_elsewhere_it_is_not(at: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        bake(model(Conceptor(), at=at), task=0)


def test_frames_that_are_folded_into_the_batch_are_split() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    target = Target(Folded(), randn(4, 5, 3))
    made = Modulated(target, Modulator(Conceptor(), Table(2), target.outputs("layer")))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += randn(*parameter.shape)
    x = randn(4, 5, 3)
    close(made(x, task=[0, 1, 1, 0]), torch.stack([made(x[i : i + 1], task=t)[0] for i, t in enumerate([0, 1, 1, 0])]))


def test_a_low_precision_network_is_mixed_in_the_precision_of_the_numbers() -> None:
    net = nn.Sequential(nn.Linear(3, 4)).bfloat16()
    target = Target(net, torch.randn(2, 3, generator=RNG).bfloat16())
    made = Modulated(target, Modulator(Conceptor(), Table(1), target.outputs("0"), dtype=torch.float32))
    (half,) = made.parameters()
    assert half.dtype == torch.float32
    with torch.no_grad():
        half += torch.randn(10, generator=RNG)
    x = torch.randn(5, 3, generator=RNG).bfloat16()
    truth = (net(x).float() @ whole(half, 4).T).bfloat16()
    assert made(x, task=0).dtype == torch.bfloat16
    assert torch.equal(made(x, task=0), truth)
