"""Biases by selector: those of layers and of norms, by pattern; what matches nothing is refused with what exists."""

import pytest
import torch
from torch import nn

from neuromod import Generated, Modulated, Modulator, RefusedError, Table, Target


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 3, bias=False), nn.LSTM(3, 2, batch_first=True)
    )


def target() -> Target:
    return Target(network(), torch.randn(3, 7, 5))


def test_biases_are_those_of_layers_norms_and_recurrent_networks() -> None:
    assert [s.name for s in target().biases()] == ["0.bias", "1.bias", "4.bias_ih_l0", "4.bias_hh_l0"]
    assert [s.name for s in target().biases("0", "4", exclude="*hh*")] == ["0.bias", "4.bias_ih_l0"]
    assert [s.shape for s in target().biases(nn.LayerNorm)] == [(4,)]


def test_a_pattern_without_a_bias_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"a pattern must match at least one bias; got '3'"):
        target().biases("3")
    with pytest.raises(RefusedError, match="the network has none"):
        Target(nn.Linear(3, 2, bias=False), torch.ones(2, 3)).biases()


def test_biases_of_a_task_start_at_the_network_and_move_it_alone() -> None:
    made, x = target(), torch.randn(3, 7, 5)
    model = Modulated(made, Modulator(Generated(), Table(2), made.biases(), identity=True))
    assert torch.equal(model(x, task=0)[0], made(x)[0])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".rows.1." in name:
                parameter += 1.0
    assert torch.equal(model(x, task=0)[0], made(x)[0])
    assert not torch.allclose(model(x, task=1)[0], made(x)[0])


def test_biases_by_their_exact_names_are_weights_too() -> None:
    assert [s.name for s in target().weights("0.bias", "0")] == ["0.weight", "0.bias"]
