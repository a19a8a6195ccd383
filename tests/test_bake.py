"""Baking into layers of others: where gain and shift are their own weight and bias, found by values; else said why not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, Table, Target, bake
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


def test_a_norm_with_its_activation_is_named() -> None:
    x = draw(5, 4, 3, 3)
    target = Target(filled(nn.Sequential(nn.Conv2d(4, 6, 1), BatchNormAct2d(6))), x)
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.norms(), seed=0)))
    with refuses("'1' is a BatchNormAct2d", "or doing more than its affine map"):
        bake(model, task=1)
