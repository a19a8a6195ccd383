"""What a stranger found: lengths that the example hides, state in objects, axes of taps, layers that were patched."""

import random
from collections import deque
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, LowRankDelta, Modulated, Modulator, RefusedError, Table, Target, Threshold, bake
from tests.refusals import refuses
from tests.traps.common import close, draw, filled, mixed_equals_singles, moved

X, IDS = draw(6, 5, 4), [0, 1, 1, 2, 0, 2]


class Packed(nn.Module):
    """Sorts by a length that it reads off padding: zeros, or a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        seen = (x != 0).any(-1) if seen is None else seen.bool()
        order = seen.sum(1).sort(descending=True, stable=True).indices
        h = torch.tanh(self.layer(x[order])) * seen[order].unsqueeze(-1)
        return self.head(h.sum(1))[order.argsort()]


@pytest.mark.parametrize("form", ["zeros", "bool mask", "float mask"])
def test_padding_that_the_example_has_not(form: str) -> None:
    seen = torch.arange(5) < torch.tensor([[1], [4], [2], [5], [3], [4]])
    example = {"zeros": (X,), "bool mask": (X, seen | True), "float mask": (X, torch.ones(6, 5).double())}[form]
    given = {"zeros": (X * seen.unsqueeze(-1),), "bool mask": (X, seen), "float mask": (X, seen.double())}[form]
    target = Target(filled(Packed()), example)
    for modulator in (
        Modulator(Affine(), Table(3), target.outputs("layer"), seed=0),
        Modulator(LowRankDelta(2), Table(3), target.weights("head*"), seed=0),
    ):
        model = moved(Modulated(target, modulator))
        alone = [model(*(x[i : i + 1] for x in given), task=t) for i, t in enumerate(IDS)]
        close(model(*given, task=IDS), torch.cat(alone))


class Lookup(nn.Module):
    """Takes the values that it knows and no others."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.layer, self.known = nn.Linear(4, 3), set(known.flatten().tolist())

    def forward(self, x: Tensor) -> Tensor:
        if not set(x.flatten().tolist()) <= self.known:
            raise KeyError("an unknown value")
        return self.layer(x.mean(1))


def test_a_network_that_takes_the_samples_of_the_example_alone() -> None:
    target = Target(filled(Lookup(X)), X)
    assert target.probe.calls["layer"][0].batch == 0
    mixed_equals_singles(moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("layer"), seed=0))), X)
    with refuses("samples of an example differ", "got 6 alike", "pass an example of distinct samples"):
        Target(filled(Lookup(X)), X[:1].expand(6, 5, 4))


class Box:
    def __init__(self) -> None:
        self.value: Any = None


class Keeps(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer, self.how, self.box, self.queue = nn.Linear(4, 3), how, Box(), deque([1.0], maxlen=3)
        self.register_buffer("steps", torch.ones(()))
        self.deep: dict[str, Any] = {"a": {"b": {"c": {"d": 1.0}}}}
        self.rng = random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.mean(1))
        if self.how == "object":
            if self.box.value is None:
                self.box.value = self.layer.weight.sum()
            return y * self.box.value
        if self.how == "data":
            self.steps.data.add_(1)
            return y * self.steps
        if self.how == "deque":
            self.queue.append(self.queue[-1] + 1)
            return y * self.queue[-1]
        if self.how == "deep":
            self.deep["a"]["b"]["c"]["d"] += 1
            return y * self.deep["a"]["b"]["c"]["d"]
        return y * self.rng.random()


@pytest.mark.parametrize("how", ["object", "data", "deque", "deep", "generator"])
def test_state_in_whatever_holds_it(how: str) -> None:
    net = filled(Keeps(how))
    target = Target(net, X)
    assert target.probe.fresh
    model = moved(Modulated(target, Modulator(Threshold(), Table(3), target.weights("*"), seed=0)))
    assert torch.equal(model(X, task=1), model(X, task=1))
    assert torch.equal(target(X), target(X))
    mixed_equals_singles(model, X)
    target.verify()


@pytest.mark.parametrize(
    ("layer", "x", "channel"),
    [
        (nn.LayerNorm(5), draw(6, 5, 5), 1),
        (nn.BatchNorm1d(5), draw(6, 5, 5), 2),
        (nn.GroupNorm(1, 5), draw(6, 5, 5), 2),
        (nn.Linear(5, 5), draw(6, 5, 5), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_tap_across_a_layers_own_axis_stays_a_tap(layer: nn.Module, x: Tensor, channel: int) -> None:
    net = filled(nn.Sequential(layer, nn.Tanh()))
    target = Target(net, x)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("0", channel=channel), seed=0)))
    row = {k.rpartition("/")[2]: v for k, v in model.named_parameters() if ".rows.1." in k}
    shape = [5 if axis == channel else 1 for axis in range(3)]
    by_hand = torch.tanh(row["gain"].view(shape) * net[0].eval()(x) + row["bias"].view(shape))
    close(model(x, task=1), by_hand)
    with pytest.raises(RefusedError, match="along another axis than its own"):
        bake(model, task=1)


def test_a_forward_that_was_replaced_on_the_object() -> None:
    net = filled(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)))
    own = nn.LayerNorm.forward
    net[1].forward = MethodType(lambda norm, x: 2 * own(norm, x), net[1])
    target = Target(net, draw(6, 4))
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.norms(), seed=0)))
    mixed_equals_singles(model, draw(6, 4))
