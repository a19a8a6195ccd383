"""Tensors that are read past a module's own calls: taps stay taps, and what no modulation would reach is refused."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuromod import Affine, LowRankDelta, Modulated, Modulator, Table, Target, bake
from tests.refusals import refuses
from tests.traps.common import close, draw, filled, mixed_equals_singles, moved

X = draw(6, 4)


class Net(nn.Module):
    """A linear layer, a norm and a head; ``end`` reads what it likes of them besides."""

    def __init__(self, end: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 4)
        self.end = end

    def forward(self, x: Tensor) -> Any:
        h = self.norm(self.layer(x))
        return self.end(self, h) + 0 * self.head(h).sum(1, keepdim=True)


TWICE: dict[str, Callable[[Any, Tensor], Any]] = {
    "divided": lambda net, h: h / (1e-3 + net.norm.weight.abs()),
    "normed again": lambda net, h: F.layer_norm(torch.tanh(h), (6,), net.norm.weight, net.norm.bias),
    "a part": lambda net, h: h[:, :3] * net.norm.weight[:3],
    "all": lambda net, h: h * sum(p.pow(2).sum() for p in net.parameters()),
    "an attribute": lambda net, h: h * net.norm.weight.data,
    "transposed": lambda net, h: F.linear(h, net.layer.weight.t()),
}


def by_hand(net: nn.Module, name: str, row: dict[str, Tensor]) -> Tensor:
    """The network with gain and shift behind one module, its weights as they are."""
    handle = net.get_submodule(name).register_forward_hook(lambda m, args, h: row["gain"] * h + row["bias"])
    found: Tensor = net(X)
    handle.remove()
    return found


@pytest.mark.parametrize("tapped", ["norm", "layer"])
@pytest.mark.parametrize("end", TWICE)
def test_a_tap_moves_no_weight_that_is_read_elsewhere(end: str, tapped: str) -> None:
    net = filled(Net(TWICE[end]))
    target = Target(net, X)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs(tapped), seed=0)))
    mixed_equals_singles(model, X)
    row = {k.rpartition("/")[2]: v for k, v in model.named_parameters() if ".rows.1." in k}
    close(model(X, task=1), by_hand(net, tapped, row))
    touched = {"transposed": ["layer"], "all": ["norm", "layer"]}.get(end, ["norm"])
    if tapped in touched:
        with refuses("a tap can be baked into a norm", "whose weight or bias the network reads elsewhere too"):
            bake(model, task=1)
    else:
        close(bake(model, task=1)(X), model(X, task=1))


def test_a_weight_that_is_put_out_is_read() -> None:
    class Shown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer(x), self.layer.weight

    target = Target(filled(Shown()), X)
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.outputs("layer"), seed=0)))
    with refuses("the network reads elsewhere too"):
        bake(model, task=1)


def test_the_form_of_a_weight_is_no_reading() -> None:
    end = lambda net, h: h.to(net.norm.weight.dtype).reshape(-1, net.norm.weight.shape[0])[:, : net.norm.weight.size(0)]  # noqa: E731
    target = Target(filled(Net(end)), X)
    model = moved(Modulated(target, Modulator(Affine(), Table(2), target.norms(), seed=0)))
    close(bake(model, task=1)(X), model(X, task=1))


class Closed(nn.Module):
    """Reaches a layer of its own by another way than its modules."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        me = weakref.ref(self)
        self.way: Any = {
            "closure": lambda h: self.b(h),
            "weak reference": lambda h: me().b(h),
            "cached method": functools.lru_cache(self._again),
        }[way]

    def _again(self, h: Tensor) -> Tensor:
        return self.b(h)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h) + torch.tanh(self.way(h))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("way", ["closure", "weak reference", "cached method"])
def test_what_no_modulation_would_reach_is_refused(way: str, frozen: bool) -> None:
    net = filled(Closed(way)).requires_grad_(not frozen)
    with refuses(
        "a network reaches its tensors through its modules", "'b.weight' is read past them", "read it off self"
    ):
        Target(net, X)
    assert all(p.grad is None for p in net.parameters())


def test_gradients_of_a_network_outside_stay_as_they_were() -> None:
    teacher, other = filled(nn.Linear(4, 4)), filled(nn.Linear(4, 4))
    teacher(X).sum().backward()
    before = {n: p.grad.clone() for n, p in teacher.named_parameters() if p.grad is not None}
    net = filled(Net(lambda net, h: h[:, :4]))
    forward = net.forward
    net.forward = lambda x: forward(other(teacher(x)))  # type: ignore[method-assign]
    with refuses("read past them"):
        Target(net, X)

    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.outside = nn.Linear(4, 3), lambda x: other(teacher(x))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.outside(x))

    target = Target(filled(Student()), X)
    assert before.keys() == dict(teacher.named_parameters()).keys()
    assert all(torch.equal(p.grad, before[n]) for n, p in teacher.named_parameters() if p.grad is not None)
    assert all(p.grad is None for p in other.parameters())
    mixed_equals_singles(moved(Modulated(target, Modulator(LowRankDelta(2), Table(3), target.weights("*"), seed=0))), X)
