"""Modules that are called in unusual ways."""

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Gate,
    Hypernet,
    Kind,
    Modulated,
    Modulator,
    Table,
    Target,
    Threshold,
)
from tests.traps.common import close, draw, filled, mixed_equals_singles, moved


def test_a_shared_activation_of_one_width_serves_all_its_calls() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act = nn.Linear(6, 5), nn.Linear(5, 5), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.b(self.act(self.a(x))))

    net, x = filled(Shared()), draw(6, 6)
    target = Target(net, x)
    (site,) = target.outputs(nn.ReLU)
    model = moved(Modulated(target, Modulator(Gate("doubled"), Table(3), [site], seed=0)))
    gain = 2 * torch.sigmoid(next(v for k, v in model.named_parameters() if ".rows.1." in k))
    close(model(x, task=1), gain * torch.relu(net.b(gain * torch.relu(net.a(x)))))
    mixed_equals_singles(model, x)


def test_a_sequence_as_the_root_keeps_its_layers_and_names() -> None:
    net, x = filled(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))), draw(6, 6)
    target = Target(net, x)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("0", "1", "2"), seed=0)))
    rows = {k.partition(".rows.1.")[2]: v for k, v in model.named_parameters() if ".rows.1." in k}
    h = x
    for i in range(3):  # a tap that were a submodule of a Sequential would be run as a layer
        h = rows[f"{i}/gain"] * net[i](h) + rows[f"{i}/bias"]
    close(model(x, task=1), h)
    mixed_equals_singles(model, x)
    assert len(net) == 3
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize("batch_first", [True, False])
def test_taps_inside_a_transformer_fire_in_evaluation_and_in_training(batch_first: bool) -> None:
    layer = filled(nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=batch_first)).eval()
    x = draw(6, 6, 8)  # as long as the batch: time must not be taken for it
    axis = 0 if batch_first else 1
    target = Target(layer, x, batch_axis=axis)
    model = moved(Modulated(target, Modulator(Gate(), Table(3), target.outputs("linear1"), seed=0)))
    gain = torch.sigmoid(next(v for k, v in model.named_parameters() if ".rows.1." in k))
    h = layer.norm1(x + layer.self_attn(x, x, x, need_weights=False)[0])
    by_hand = layer.norm2(h + layer.linear2(torch.relu(gain * layer.linear1(h))))
    for mode in (False, True):
        close(model.train(mode)(x, task=1), by_hand)
        mixed_equals_singles(model, x, axis, axis)
    with torch.no_grad():
        close(model.eval()(x, task=1), by_hand)
        assert float((target(x) - by_hand).detach().abs().max()) > 1e-3


class TimeFirst(nn.Module):
    """(T, B, D) inside and outside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.out = nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.norm(self.a(x))).cumsum(0))


@pytest.mark.parametrize("kind", [Affine(), Threshold()])
def test_a_time_first_network_as_long_as_its_batch(kind: Kind) -> None:
    x = draw(6, 6, 5)
    target = Target(filled(TimeFirst()), x, batch_axis=1)
    sites = target.norms() if isinstance(kind, Affine) else target.weights("*")
    model = moved(Modulated(target, Modulator(kind, Table(3), sites, seed=0)))
    mixed_equals_singles(model, x, 1, 1)


class Folded(nn.Module):
    """(B, T, D) as rows (B T, D) inside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.out = nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.out(torch.tanh(self.norm(self.a(x.flatten(0, 1)))))
        return rows.unflatten(0, x.shape[:2]).cumsum(1)


def test_a_network_that_folds_its_batch_into_rows() -> None:
    x = draw(6, 4, 5)
    target = Target(filled(Folded()), x)
    (site,) = target.norms()
    assert site.batch is None
    assert not Affine().gathers(site)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), [site], seed=0)))
    mixed_equals_singles(model, x)
    gated = moved(Modulated(target, Modulator(Gate(), Hypernet("input", hidden=3), target.outputs("a"), seed=0)))
    close(gated(x), torch.cat([gated(x[i : i + 1]) for i in range(6)]))
