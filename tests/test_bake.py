"""Baking into layers of others: where gain and shift are their own weight and bias, found by values; else said why not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, Table, Target, Threshold, bake
from tests.refusals import refuses
from tests.traps.common import close, draw, filled, moved


class LayerNorm(nn.LayerNorm):
    """As timm's and many others': torch's with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class BatchNormAct2d(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


@pytest.mark.parametrize(
    ("norm", "x"),
    [(LayerNorm(6), draw(5, 4)), (LayerNorm2d(6), draw(5, 4, 3, 3))],
    ids=["last", "2d"],
)
def test_subclasses_of_norms_that_do_no_more(norm: nn.Module, x: Tensor) -> None:
    layer: Any = nn.Linear(4, 6) if x.ndim == 2 else nn.Conv2d(4, 6, 1)
    target = Target(filled(nn.Sequential(layer, norm, nn.Tanh())), x)
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.norms(), seed=0)))
    plain = bake(model, task=1)
    close(plain(x), model(x, task=1))
    assert [type(m) for m in plain] == [type(m) for m in target.pristine]


def hooked(net: nn.Module) -> nn.Module:
    net.get_submodule("1").register_forward_hook(lambda module, args, output: output.tanh())
    return net


def tied(net: nn.Module) -> nn.Module:
    net.get_submodule("1").weight = net.get_submodule("2").weight
    return net


@pytest.mark.parametrize(
    ("net", "options", "reason"),
    [
        (
            nn.Sequential(nn.Conv2d(4, 6, 1), BatchNormAct2d(6)),
            {},
            "is a BatchNormAct2d that does more than its affine map",
        ),
        (nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU()), {}, "is a ReLU; keep the model"),
        (
            nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)),
            {"channel": -1},
            "is a BatchNorm2d that is modulated along another axis",
        ),
        (hooked(nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))), {}, "is a BatchNorm2d with hooks"),
        (
            tied(nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.BatchNorm2d(6))),
            {},
            "is a BatchNorm2d whose tensors are tied",
        ),
    ],
    ids=["more", "no layer", "axis", "hooked", "tied"],
)
def test_why_a_tap_is_not_baked(net: nn.Module, options: dict[str, Any], reason: str) -> None:
    target = Target(filled(net), draw(5, 4, 3, 6))
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.outputs("1", **options), seed=0)))
    with refuses("a tap can be baked into a norm", f"'1' {reason}"):
        bake(model, task=1)


def test_numbers_of_a_higher_precision_are_not_baked_into_a_lower_one() -> None:
    target = Target(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)).bfloat16(), draw(5, 4).bfloat16())
    model = Modulated(target, Modulator(Affine(), Table(2), target.norms(), dtype="float32", seed=0))
    with refuses("'1' is a LayerNorm of torch.bfloat16, and its modulation is torch.float32"):
        bake(model, task=1)


class BatchNormAct1d(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


def test_an_activation_that_the_example_does_not_show() -> None:
    target = Target(nn.Sequential(BatchNormAct1d(4), nn.Linear(4, 3)).double(), draw(6, 4).abs() + 0.1)
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.outputs("0"), seed=0)))
    with refuses("'0' is a BatchNormAct1d that does more than its affine map"):
        bake(model, task=1)


@pytest.mark.parametrize(
    ("net", "x", "name"),
    [
        (nn.Sequential(nn.Linear(4, 6), nn.LayerNorm([5, 6])), draw(3, 5, 4), "1"),
        (nn.Sequential(nn.ConvTranspose2d(4, 5, 2, 2), nn.BatchNorm2d(5)), draw(3, 4, 4, 4), "0"),
        (nn.Sequential(nn.ConvTranspose2d(4, 4, 2, 2), nn.BatchNorm2d(4)), draw(3, 4, 4, 4), "0"),
    ],
)
def test_layers_without_a_weight_per_channel(net: nn.Module, x: Tensor, name: str) -> None:
    target = Target(filled(net), x)
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.outputs(name), seed=0)))
    with refuses("without a weight per channel"):
        bake(model, task=1)


def test_each_tensor_keeps_its_dtype() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b = nn.Linear(4, 6).bfloat16(), nn.LayerNorm(6), nn.Linear(6, 3).half()

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.norm(self.a(x.bfloat16()).float()).half())

    x = draw(6, 4).float()
    target = Target(Mixed(), x)
    model = Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0)).eval()
    baked = bake(model, task=1)
    assert torch.equal(baked(x), model(x, task=1))
    assert {p.dtype for p in baked.parameters()} == {torch.bfloat16, torch.float32, torch.float16}
    assert {p.dtype for p in bake(model.double(), task=1).parameters()} == {torch.float64}


class Clamped(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.hardtanh(super().forward(x), -50, 50)


class ByKeyword(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[1](x=self[0](x))


def test_what_only_larger_values_show_and_calls_by_keyword() -> None:
    target = Target(filled(nn.Sequential(Clamped(4, 6), nn.Linear(6, 3))), draw(5, 4))
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.outputs("0", channel=-1), seed=0)))
    with refuses("'0' is a Clamped that does more than its affine map"):
        bake(model, task=1)
    target = Target(filled(ByKeyword(nn.Linear(4, 6), LayerNorm(6))), draw(5, 4))
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.norms(), seed=0)))
    close(bake(model, task=1)(draw(5, 4)), model(draw(5, 4), task=1))
