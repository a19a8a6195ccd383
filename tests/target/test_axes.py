"""Channels are found by types and by the layers beside a module, never guessed."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, Table, Target, bake
from tests.refusals import refuses


@pytest.mark.parametrize(
    ("name", "module", "channels"),
    [("swin_t", "features.1.0.mlp.1", 384), ("convnext_tiny", "features.1.0.block.4", 384)],
)
def test_channels_last_inside(name: str, module: str, channels: int) -> None:
    net = getattr(torchvision.models, name)(weights=None).eval()
    (site,) = Target(net, torch.randn(1, 3, 32, 32)).outputs(module)
    assert (site.shape, site.channel) == ((channels,), -1)


def test_layers_in_front_and_behind_say_the_axis() -> None:
    image = torch.randn(2, 3, 8, 8)
    conv = Target(nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Dropout(), nn.Conv2d(5, 4, 1)), image)
    assert [(s.shape, s.channel) for s in conv.outputs("1", "2")] == [((5,), 1), ((5,), 1)]
    linear = Target(nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Identity(), nn.Linear(6, 4)), image)
    assert [(s.shape, s.channel) for s in linear.outputs("1", "2")] == [((6,), -1), ((6,), -1)]
    behind = Target(nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Flatten(1, 2), nn.ReLU(), nn.BatchNorm2d(3)), image)
    assert behind.outputs("2")[0].channel == 1
    permuted = Target(nn.Sequential(nn.Conv2d(3, 5, 1), Permuted(), nn.Linear(5, 4)), image)
    assert [(s.shape, s.channel) for s in permuted.outputs("1")] == [((5,), -1)]
    with refuses("the channel axis of '0'", "Permuted", "channel=axis"):
        Target(nn.Sequential(Permuted(), nn.Flatten(), nn.Linear(192, 4)), image).outputs("0")


class Permuted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def test_layers_that_say_different_axes() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Linear(8, 4))
    with refuses("the channel axis of '1'", "say [-1, 1]", "channel=axis"):
        Target(net, torch.randn(2, 3, 8, 8)).outputs("1")


@pytest.mark.parametrize(
    ("layers", "channel"),
    [
        ((nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)), -1),
        ((nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6)), 1),
        ((nn.Identity(), nn.ReLU(), nn.BatchNorm1d(6)), 1),
        ((nn.Identity(), nn.ReLU(), nn.Identity()), -1),
    ],
)
def test_an_example_of_two_axes_called_with_three(layers: tuple[nn.Module, ...], channel: int) -> None:
    """As many places as channels: no shape would tell."""
    net = nn.Sequential(*layers).eval()
    target = Target(net, torch.randn(4, 6))
    model = Modulated(target, Modulator(Affine(), Table(1), target.outputs("1"), seed=0))
    gain = torch.arange(1.0, 7.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(gain if name.endswith("gain") else torch.zeros(6))
    x = torch.randn(3, 6, 6)
    slow = layers[2](layers[1](layers[0](x)) * (gain[:, None] if channel == 1 else gain))
    assert torch.allclose(model(x, task=0), slow, atol=1e-6)
    assert target.outputs("1")[0].channel == channel


def test_channels_on_the_batch_axis() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    target = Target(net, torch.randn(4, 6))
    with refuses("axis -2 of '1' (output (4, 5)) holds the samples", "channel=another"):
        target.outputs("1", channel=-2)


def test_a_container_has_the_channels_of_its_last_layer() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(8, 6), nn.ReLU()), nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()))
    target = Target(net, torch.randn(2, 3, 8, 8))
    assert [(s.shape, s.channel) for s in target.outputs("0", "1")] == [((6,), -1), ((2,), 1)]


@pytest.mark.parametrize("channel", [4, -5, True, "1", 1.0])
def test_an_axis_that_is_none(channel: object) -> None:
    target = Target(nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU()), torch.randn(2, 3, 8, 8))
    with refuses("channel= must be an integer from -4 to 3"):
        target.outputs("1", channel=channel)  # type: ignore[arg-type]


def test_every_weight_but_norms_is_a_star() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.two = nn.EmbeddingBag(10, 4), nn.Bilinear(4, 4, 6)
            self.a, self.norm, self.b = nn.Linear(6, 6), nn.LayerNorm((1, 6)), nn.Linear(6, 3)
            nn.utils.parametrizations.weight_norm(self.a)

        def forward(self, i: Tensor) -> Tensor:
            h = self.bag(i)
            return self.b(self.norm(self.a(self.two(h, h)).unsqueeze(1))).squeeze(1)

    target = Target(Net(), torch.randint(0, 10, (6, 4)))
    originals = {f"a.parametrizations.weight.original{i}" for i in (0, 1)}
    assert {s.name for s in target.weights("*")} == {"bag.weight", "two.weight", "b.weight", *originals}
    model = Modulated(target, Modulator(Affine(), Table(2), target.norms(), seed=0))
    assert model(torch.randint(0, 10, (3, 4)), task=0).shape == (3, 3)


class OneByOne(nn.Module):
    """Calls a layer of images with each by itself: (C, H, W), without a batch axis."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(image) for image in x])


@pytest.mark.parametrize(
    ("layer", "channels", "axes"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 8, 2),
        (nn.Conv2d(3, 4, 3, padding=1), 4, 2),
        (nn.InstanceNorm2d(3, affine=True), 3, 2),
        (nn.Conv1d(3, 8, 1), 8, 1),
        (nn.MaxPool2d(1), 3, 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_channels_of_a_single_image(layer: nn.Module, channels: int, axes: int) -> None:
    net, x = OneByOne(layer), torch.randn(4, 3, *[8] * axes)
    target = Target(net, x)
    model = Modulated(target, Modulator(Affine(), Table(2), target.outputs("layer"), seed=0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    edits = model.edits(task=1)
    gain, shift = (edits[f"layer.tap_{part}"].reshape(channels, *[1] * axes) for part in ("gain", "bias"))
    expected = net.eval()(x) * gain + shift
    assert torch.allclose(model(x, task=1), expected, atol=1e-5)
    mixed = model(x, task=[0, 1, 1, 0])
    assert torch.allclose(mixed[1:3], expected[1:3], atol=1e-5)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        assert torch.allclose(bake(model, task=1)(x), expected, atol=1e-5)
