"""Two names of one tensor."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuromod import (
    Affine,
    Generated,
    Head,
    Kind,
    LowRankDelta,
    Modulated,
    Modulator,
    Rank1,
    RefusedError,
    Table,
    Target,
    Threshold,
    TopK,
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
    (head,) = target.head()
    assert (head.name, head.module, head.bias) == ("out.weight", "out", True)
    model = moved(Modulated(target, Modulator(LowRankDelta(), Table(3), sites, seed=0)))
    W = model.edits(task=1)["embedding.weight"]
    by_hand = F.linear(torch.tanh(F.embedding(TOKENS, W)).mean(1), W, target.tensors()["out.bias"])
    close(model(TOKENS, task=1), by_hand)
    mixed_equals_singles(model, TOKENS)


@pytest.mark.parametrize("embedding_first", [True, False])
def test_a_head_of_a_tied_decoder_leaves_the_embedding_alone(embedding_first: bool) -> None:
    net = filled(Tied())
    if not embedding_first:
        net._modules = {"out": net.out, "embedding": net.embedding}
    target = Target(net, TOKENS)
    model = moved(Modulated(target, Modulator(Head(), Table(3), target.head(), seed=0)))
    row = {k.rpartition("/")[2]: v for k, v in model.named_parameters() if ".rows.1." in k}
    features = torch.tanh(net.embedding(TOKENS)).mean(1)
    close(model(TOKENS, task=1), F.linear(features, row["weight"], row["bias"]))
    mixed_equals_singles(model, TOKENS)
    with pytest.warns(UserWarning, match="no longer tied"):
        plain = bake(model, task=1)
    close(plain(TOKENS), model(TOKENS, task=1))
    assert plain.embedding.weight is not plain.out.weight
    narrow = Modulated(target, Modulator(Head(width=4), Table(2), target.head(), seed=0))
    assert narrow(TOKENS, task=0).shape == (6, 4)


def test_a_head_and_a_mask_of_its_tied_weight_are_refused() -> None:
    target = Target(filled(Tied()), TOKENS)
    mask = lambda: Modulator(Threshold(), Table(2), target.weights("*"), seed=0)  # noqa: E731
    head = lambda: Modulator(Head(), Table(2), target.head(), seed=0)  # noqa: E731
    for pair in ((mask(), head()), (head(), mask())):
        with pytest.raises(RefusedError, match="share a tensor only where both act"):
            Modulated(target, *pair)


@pytest.mark.parametrize("kind", [LowRankDelta(2), Threshold(), TopK(), Rank1(), Generated()], ids=repr)
def test_a_baked_network_keeps_its_ties(kind: Kind) -> None:
    target = Target(filled(Tied()), TOKENS)
    model = moved(Modulated(target, Modulator(kind, Table(3), target.weights("*"), seed=0)))
    for sealed in (False, True):
        if sealed:
            model.seal(1)
        plain = bake(model, task=1)
        assert plain.out.weight is plain.embedding.weight
        close(plain(TOKENS), model(TOKENS, task=1))
        W = model.edits(task=1)["embedding.weight"]
        close(plain(TOKENS), F.linear(torch.tanh(F.embedding(TOKENS, W)).mean(1), W, target.tensors()["out.bias"]))


def test_a_layer_that_stands_in_two_places_is_put_back() -> None:
    layer = filled(nn.Linear(6, 6))
    net = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(6, 3)).double()
    x = draw(6, 6)
    target = Target(net, x)
    model = moved(Modulated(target, Modulator(Threshold(), Table(3), target.weights("*"), seed=0)))
    before = target(x).clone()
    mixed_equals_singles(model, x)
    target.verify()
    assert torch.equal(target(x), before)
    assert torch.equal(model.skeleton({}, (x,)), before)


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
