"""The user's network is never written, whatever its forward writes; what cannot be a target says so."""

import copy
import math
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from neuromod import Affine, Generated, Hypernet, LowRankDelta, Modulated, Modulator, Table, Target, Threshold
from tests.refusals import refuses
from tests.traps.common import close, draw, filled, mixed_equals_singles, moved

X = draw(6, 4)


def bytes_of(net: nn.Module) -> list[bytes]:
    return [t.detach().contiguous().numpy().tobytes() for t in (*net.parameters(), *net.buffers())]


class Renormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4, max_norm=0.5), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids).flatten(1))


def test_a_table_that_is_rescaled_in_place_stays_the_users() -> None:
    net, ids = filled(Renormed()), torch.randint(0, 10, (6, 2))
    before = bytes_of(net)
    target = Target(net, ids)
    assert target.probe.written == {"table.weight"}
    model = moved(Modulated(target, Modulator(LowRankDelta(2), Table(3), target.weights("*"), seed=0)))
    mixed_equals_singles(model, ids)
    rows = torch.renorm(model.edits(task=1)["table.weight"], 2, 0, 0.5)
    close(
        model(ids, task=1),
        model.skeleton.layer("head").bias + rows[ids].flatten(1) @ model.edits(task=1)["head.weight"].T,
        1e-6,
    )
    target.verify()
    assert bytes_of(net) == before


class Clamped(nn.Module):
    """Clamps its own weight in place, as BinaryConnect does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.layer.weight.data.clamp_(-0.2, 0.2)
        return self.head(self.layer(x))


class Counting(nn.Module):
    """Writes buffers in eval mode: in place, by a new tensor, and a dict of what it has derived."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.bias = nn.Linear(4, 3), nn.Parameter(torch.ones(2, 3))
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(3))
        self.kept: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = self.layer(x)
        if 0 not in self.kept:
            self.kept[0] = self.bias.sum(0)
        self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        return y * self.calls + self.kept[0]


@pytest.mark.parametrize("make", [Clamped, Counting])
def test_equal_calls_are_equal_whatever_the_forward_writes(make: Callable[[], nn.Module]) -> None:
    net = filled(make())
    before, attributes = bytes_of(net), copy.deepcopy(net.__dict__.get("kept"))
    target = Target(net, X)
    assert target.probe.fresh
    for kind in (Threshold(), Generated()):
        model = moved(Modulated(target, Modulator(kind, Table(3), target.weights("*"), seed=0)))
        assert torch.equal(model(X, task=0), model(X, task=0))
        assert not torch.allclose(model(X, task=0), model(X, task=1), atol=1e-3)
        mixed_equals_singles(model, X)
    assert torch.equal(target(X), target(X))
    target.verify()
    assert bytes_of(net) == before
    assert net.__dict__.get("kept") == attributes
    with refuses("a compiled network keeps nothing from call to call"):
        model.compile()


def test_what_is_derived_once_is_derived_of_each_tasks_own() -> None:
    net = filled(Counting())
    target = Target(net, X)
    model = moved(Modulated(target, Modulator(Generated(), Table(2), target.weights("bias"), seed=0)))
    for task in (0, 1):
        bias = model.edits(task=task)["bias"]
        close(model(X, task=task), net.layer(X) + bias.sum(0))


def test_inputs_that_the_forward_writes() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.mul_(2))

    net, x = filled(Scaled()), X.clone()
    target = Target(net, x)
    sources = (Table(3), Hypernet("activation:layer", hidden=4))
    site = target.outputs("layer")
    for source in sources[:1]:
        model = moved(Modulated(target, Modulator(Affine(), source, site, seed=0)))
        mixed_equals_singles(model, x)
    assert torch.equal(x, X)
    assert torch.equal(target.example[0], X)


class Layered(nn.Module):
    def __init__(self, keeps: bool = False) -> None:
        super().__init__()
        self.a, self.n, self.b, self.keeps = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3), keeps

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.keeps:
            self.feature = h
        return self.b(torch.relu(self.n(h)))


def _hooked(net: Layered) -> None:
    net.got = {}
    net.a.register_forward_hook(lambda module, args, out: net.got.update(a=out))  # type: ignore[union-attr]
    net(X)


HOLDERS: dict[str, Callable[[Layered], Any]] = {
    "weight_norm": lambda n: nn.utils.weight_norm(n.a),
    "prune": lambda n: prune.l1_unstructured(n.a, "weight", 0.5),
    "spectral_norm": lambda n: (nn.utils.spectral_norm(n.a), n(X)),
    "keeps an activation": lambda n: (setattr(n, "keeps", True), n(X)),
    "a hook keeps one": _hooked,
    "parametrized": lambda n: nn.utils.parametrizations.weight_norm(n.a),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning", "ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("name", HOLDERS)
def test_networks_that_hold_tensors_of_a_graph(name: str) -> None:
    net = filled(Layered())
    HOLDERS[name](net)
    target = Target(net, X)
    model = Modulated(target, Modulator(Affine(), Table(3), target.norms(), seed=0)).eval()
    close(model(X, task=0), net.eval()(X))
    mixed_equals_singles(moved(model), X)
    target.verify()


def _made_in_inference() -> nn.Module:
    with torch.inference_mode():
        return Layered()


def _sparse() -> nn.Module:
    net = Layered()
    net.register_buffer("adjacency", torch.eye(3).to_sparse())
    return net


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: nn.DataParallel(Layered()), ("is a DataParallel", ".module")),
        (lambda: torch.jit.script(nn.Linear(4, 3)), ("is a script", "before torch.jit")),
        (lambda: nn.Sequential(nn.LazyLinear(3)), ("'0.weight' is not made yet",)),
        (_made_in_inference, ("made in inference_mode",)),
        (_sparse, ("'adjacency' is torch.sparse_coo",)),
        (lambda: Layered().to("meta"), ("device 'meta'",)),
        (lambda: Layered, ("an nn.Module; got type",)),
    ],
)
def test_what_cannot_be_a_target(make: Callable[[], Any], parts: tuple[str, ...]) -> None:
    with refuses(*parts):
        Target(make(), X.float())


def test_weights_that_are_not_real() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.layer = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat)), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.fft.ifft(torch.fft.fft(x) @ self.w).real)

    target = Target(Spectral(), X.float())
    with refuses("real floating numbers", "'w' is torch.complex64"):
        target.weights("w")
    Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0))(X.float(), task=0)


@pytest.mark.parametrize(
    "held", [threading.Lock(), queue.Queue(), (i for i in range(3)), math], ids=lambda held: type(held).__name__
)
def test_what_has_no_copy_is_named(held: object) -> None:
    net = nn.Sequential(nn.Linear(4, 3))
    net.held = held  # type: ignore[assignment]
    with refuses(
        "a target runs on copies of the network; a Sequential holds what has no copy",
        "cannot pickle",
        "outside of it",
    ):
        Target(net, torch.randn(2, 4))
