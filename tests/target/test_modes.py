"""Eval mode, but for what torch's own modules need and what `dropout=True` asks for."""

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, Table, Target
from tests.refusals import refuses
from tests.traps.common import close, draw

X = draw(6, 5, 8)


class Dropped(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return F.dropout(super().forward(x, x, x)[0], 0.5, self.training)


class LayerDrop(nn.TransformerEncoderLayer):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) * (0 if self.training and torch.rand(()) < 0.5 else 1)


class InputDrop(nn.LSTM):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(F.dropout(x, 0.5, self.training))[0]


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.utils.spectral_norm(nn.MultiheadAttention(8, 2, batch_first=True), "in_proj_weight")

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


MODULES: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: Dropped(8, 2, batch_first=True),
    "encoder layer": lambda: LayerDrop(8, 2, 16, dropout=0.0, batch_first=True),
    "lstm": lambda: InputDrop(8, 8, batch_first=True),
    "power iteration": Own,
}


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_the_identity_is_the_network_in_eval_mode(name: str, training: bool) -> None:
    net = nn.Sequential(MODULES[name](), nn.Linear(8, 3)).double().eval()
    target = Target(net, X)
    model = Modulated(target, Modulator(Affine(), Table(2), target.outputs("1"), seed=0)).train(training)
    for _ in range(4):
        close(model(X, task=0), net(X), 1e-12)
    target.verify()


class Path(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 1) > 0.5) * 2 if self.training else x


class Skip(nn.Module):
    """A layer that is left out now and then, by Python's own generator."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0 if self.training and random.random() < 0.5 else x


class Weights(nn.Module):
    """torch's own dropout of attention weights, which is a number and no module."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class By(nn.Module):
    def __init__(self, how: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.how, self.inside = how, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(self.how(x, self.training))


DRAWS: dict[str, Callable[[], nn.Module]] = {
    "F.dropout": lambda: By(lambda x, t: F.dropout(x, 0.5, t)),
    "sdpa": lambda: By(lambda x, t: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 * t)),
    "StochasticDepth": lambda: torchvision.ops.StochasticDepth(0.5, "row"),
    "DropPath": Path,
    "LayerDrop": Skip,
    "nn.Dropout": lambda: nn.Dropout(0.5),
    "attention": lambda: Dropped(8, 2, batch_first=True),
    "a rate of attention": lambda: Weights(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_dropout_of_any_make_drops_where_it_is_asked_for(name: str) -> None:
    net = nn.Sequential(nn.Linear(8, 8), DRAWS[name](), nn.LayerNorm(8), nn.Linear(8, 3)).double()
    for dropout in (True, False):
        target = Target(net, X, dropout=dropout)
        model = Modulated(target, Modulator(Affine(), Table(2), target.outputs("3"), seed=0)).train()
        drops = any(not torch.equal(model(X, task=0), model(X, task=0)) for _ in range(8))
        assert drops == dropout
        model.eval()
        assert torch.equal(model(X, task=0), net.eval()(X))
        net.train()


def test_norms_stay_in_eval_mode_beside_dropout() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    target = Target(net, X, dropout=True)
    assert target.draws == {"2"}
    model = Modulated(target, Modulator(Affine(), Table(2), target.outputs("3"), seed=0)).train()
    model(X, task=0)
    assert not model.skeleton.layer("1").training
    assert bool((model.skeleton.tensors["1.running_mean"] == 0).all())


def test_a_network_that_does_not_run_in_train_mode() -> None:
    class Evaluated(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise ValueError("targets are missing")
            return super().forward(x)

    Target(Evaluated(8, 3).double(), X)
    with refuses("dropout=True runs the network in train mode", "targets are missing", "drop dropout=True"):
        Target(Evaluated(8, 3).double(), X, dropout=True)


class OwnNorm(nn.Module):
    """Dropout and a norm of its own in one module, whose mode both follow."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.layer, self.fused = nn.Linear(8, 3), fused
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(x.mean(1), 0.5, self.training)
        if self.fused:
            return self.layer(torch.batch_norm(x, None, None, self.mean, self.var, self.training, 0.1, 1e-5, True))
        return self.layer(F.batch_norm(x, self.mean, self.var, training=self.training))


@pytest.mark.parametrize("fused", [False, True])
def test_a_norm_that_would_follow_the_mode_of_dropout(fused: bool) -> None:
    net = OwnNorm(fused=fused)
    with refuses("no norm on statistics of the batch", "drop dropout=True"):
        Target(net, X.float(), dropout=True)
    close(Target(net, X.float())(X.float()), net.eval()(X.float()))
    both = nn.Sequential(nn.Linear(8, 6), nn.Flatten(), nn.BatchNorm1d(30), nn.Dropout())
    assert Target(both, X.float(), dropout=True).draws == {"3"}
