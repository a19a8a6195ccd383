"""Two names of one tensor."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuromod import (
    Affine,
    LowRankDelta,
    Modulated,
    Modulator,
    RefusedError,
    Table,
    Target,
    bake,
)
from tests.traps.common import close, draw, filled, mixed_equals_singles, moved


class Tied(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(9, 6), nn.Linear(6, 9)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.tanh(self.embedding(tokens)).mean(1))


TOKENS = torch.randint(0, 9, (6, 4), generator=torch.Generator().manual_seed(0))


def test_tied_weights_are_one_site_under_either_name() -> None:
    target = Target(filled(Tied()), TOKENS)
    sites = target.weights("*")
    assert [s.name for s in sites] == ["embedding.weight"]
    assert target.weights("out.weight") == target.weights("embedding.weight") == target.weights("out*") == sites
    assert target.head() == sites
    model = moved(Modulated(target, Modulator(LowRankDelta(), Table(3), sites, seed=0)))
    W = model.edits(task=1)["embedding.weight"]
    by_hand = F.linear(torch.tanh(F.embedding(TOKENS, W)).mean(1), W, target.tensors()["out.bias"])
    close(model(TOKENS, task=1), by_hand)
    mixed_equals_singles(model, TOKENS)


def test_a_tap_behind_a_tied_layer_leaves_its_partner_alone() -> None:
    net = filled(Tied())
    target = Target(net, TOKENS)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("out"), seed=0)))
    row = {k.rpartition("/")[2]: v for k, v in model.named_parameters() if ".rows.1." in k}
    close(model(TOKENS, task=1), row["gain"] * net(TOKENS) + row["bias"])
    with pytest.raises(RefusedError, match="'out' is a Linear"):
        bake(model, task=1)  # folding would write the embedding too


def test_a_fold_never_touches_a_tied_norm() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.LayerNorm(6), nn.LayerNorm(6), nn.Linear(6, 3)
            self.b.weight, self.b.bias = self.a.weight, self.a.bias

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.b(torch.tanh(self.a(x))))

    net, x = filled(Twins()), draw(6, 6)
    target = Target(net, x)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.norms("a"), seed=0)))
    row = {k.rpartition("/")[2]: v for k, v in model.named_parameters() if ".rows.2." in k}
    by_hand = net.out(net.b(torch.tanh(row["gain"] * net.a(x) + row["bias"])))
    close(model(x, task=2), by_hand)
    mixed_equals_singles(model, x)
