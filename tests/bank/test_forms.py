"""A store says how its target is called and in which numbers its modulators are held."""

from pathlib import Path

import torch
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, Store, Table, Target, Threshold, from_pretrained
from tests.refusals import refuses


class WithGrid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 5), nn.LayerNorm(5)

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return self.norm(self.layer(grid @ x)).mean(1)


def test_axes_of_inputs_and_numbers_of_a_higher_precision(tmp_path: Path) -> None:
    x, grid = torch.randn(6, 3, 4), torch.randn(3, 3)
    net = WithGrid().bfloat16()
    x, grid = x.bfloat16(), grid.bfloat16()
    target = Target(net, (x, grid), batch_axis=(0, None))
    parts = (
        Modulator(Affine(), Table(2), target.norms(), seed=0, dtype="float32"),
        Modulator(Threshold(), Table(2), target.weights("*"), seed=0),
    )
    model = Modulated(target, *parts).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += torch.randn(p.shape).to(p)
    expected = model(x, grid, task=1)
    model.seal(1)
    Store.create(tmp_path / "store", model).append(model, 1)
    again = from_pretrained(tmp_path / "store", target=target).eval()
    assert torch.equal(again(x, grid, task=1), expected)
    assert again.named_modulators()["affine"].like.dtype == torch.float32
    other = Target(net, (x, torch.randn(6, 3, 3).bfloat16()))
    with refuses("a target runs as it was saved", "batch_axis=[0, None]"):
        from_pretrained(tmp_path / "store", target=other)
