"""mAdaFM as the paper has it: per kernel, of every layout of a weight, and the base itself at its start."""

import pytest
import torch
from torch import nn

from neuromod import AdaFM, Modulated, Modulator, RefusedError, Table, Target
from tests import reference


def modulator(net: nn.Module, x: torch.Tensor, *names: str) -> tuple[Target, Modulator]:
    target = Target(net, x)
    made = Modulator(AdaFM(), Table(1), target.weights(*names))
    return target, made


LAYERS = {
    "convolution": (nn.Conv2d(3, 5, 3, padding=1), (2, 3, 6, 6), (5, 3)),
    "transposed": (nn.ConvTranspose2d(3, 5, 4, stride=2), (2, 3, 6, 6), (3, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 6, 6), (6, 2)),
    "one axis": (nn.Conv1d(3, 5, 3), (2, 3, 6), (5, 3)),
    "1 x 1": (nn.Conv2d(3, 5, 1), (2, 3, 6, 6), (5,)),
    "dense": (nn.Linear(7, 4), (2, 7), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_kernel_is_scaled_and_shifted_as_in_the_paper(name: str) -> None:
    layer, shape, lead = LAYERS[name]
    x = torch.randn(shape)
    target, made = modulator(nn.Sequential(layer), x, "*", "0.bias")
    model = Modulated(target, made)
    row = made.source.own(0)
    assert {key: tuple(value.shape) for key, value in row.items()} == {
        "0/weight/gamma": lead,
        "0/weight/beta": lead,
        "0/bias/beta": tuple(layer.bias.shape),
    }
    assert torch.equal(model(x, task=0), target(x))
    with torch.no_grad():
        for value in row.values():
            value += torch.randn_like(value)
    edits = model.edits(task=0)
    expected = reference.adafm(layer.weight, row["0/weight/gamma"], row["0/weight/beta"])
    torch.testing.assert_close(edits["0.weight"], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(edits["0.bias"], layer.bias + row["0/bias/beta"])


def test_gain_one_and_shift_zero_are_not_the_base() -> None:
    """The trap of the published code's defaults: they are an identity on the raw weight only."""
    x = torch.randn(2, 3, 6, 6)
    target, made = modulator(nn.Sequential(nn.Conv2d(3, 5, 3)), x, "*")
    model, row = Modulated(target, made), made.source.own(0)
    with torch.no_grad():
        row["0/weight/gamma"].fill_(1)
        row["0/weight/beta"].zero_()
    kernels = model.edits(task=0)["0.weight"].flatten(2)
    torch.testing.assert_close(kernels.mean(2), torch.zeros(5, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(kernels.std(2), torch.ones(5, 3), rtol=0, atol=1e-5)


def test_a_kernel_of_equal_numbers_is_its_mean() -> None:
    layer = nn.Conv2d(1, 1, 3)
    nn.init.constant_(layer.weight, 0.5)
    x = torch.randn(2, 1, 6, 6)
    target, made = modulator(nn.Sequential(layer), x, "*")
    model, row = Modulated(target, made), made.source.own(0)
    with torch.no_grad():
        row["0/weight/gamma"].fill_(3)
        row["0/weight/beta"].fill_(2)
    model(x, task=0).sum().backward()
    assert torch.equal(model.edits(task=0)["0.weight"], torch.full((1, 1, 3, 3), 2.0))
    assert all(bool(torch.isfinite(value.grad).all()) for value in row.values())


def test_a_row_of_one_number_is_refused() -> None:
    target = Target(nn.Sequential(nn.Linear(1, 5)), torch.randn(2, 1))
    with pytest.raises(RefusedError, match=r"rows of two numbers or more; got '0.weight' .* exclude it"):
        Modulated(target, Modulator(AdaFM(), Table(1), target.weights("*")))
