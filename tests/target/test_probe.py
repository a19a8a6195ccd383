"""The batch axis is found by values; what acts and learns by effect and gradient."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuromod import Affine, Hypernet, LowRankDelta, Modulated, Modulator, RefusedError, Table, Target, Threshold
from neuromod.errors import ExampleError
from tests.refusals import refuses
from tests.traps.common import close, draw, filled, mixed_equals_singles, moved

X = draw(6, 6, 4)


class Around(nn.Module):
    """A layer with something done to the batch in front of it and behind it."""

    def __init__(self, before: Any, after: Any) -> None:
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.after(self.norm(torch.tanh(self.layer(self.before(x)))), x).mean(1))


WAYS: dict[str, tuple[Any, Any, int | None]] = {
    "as it is": (lambda x: x, lambda h, x: h, 0),
    "flipped": (lambda x: x.flip(0), lambda h, x: h.flip(0), None),
    "rolled": (lambda x: x.roll(2, 0), lambda h, x: h.roll(-2, 0), None),
    "sorted": (
        lambda x: x[x[:, 0, 0].argsort()],
        lambda h, x: h[x[:, 0, 0].argsort().argsort()],
        None,
    ),
    "time first": (lambda x: x.transpose(0, 1), lambda h, x: h.transpose(0, 1), 1),
    "folded": (lambda x: x.flatten(0, 1), lambda h, x: h.unflatten(0, x.shape[:2]), None),
    "rows appended": (lambda x: torch.cat([x, x[:1] * 0 + 1]), lambda h, x: h[: len(x)], None),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("samples", [1, 2, 6])
def test_an_axis_follows_the_batch_where_its_rows_are_the_samples(way: str, samples: int) -> None:
    before, after, axis = WAYS[way]
    net = filled(Around(before, after))
    target = Target(net, X[:samples])
    assert {target.probe.calls[name][0].batch for name in ("layer", "norm")} == {axis}
    for make in (
        lambda: Modulator(Affine(), Table(3), target.outputs("norm"), seed=0),
        lambda: Modulator(LowRankDelta(2), Table(3), target.weights("layer*"), seed=0),
        lambda: Modulator(Threshold(), Table(3), target.weights("*"), seed=0),
    ):
        mixed_equals_singles(moved(Modulated(target, make())), X)


def test_frames_that_are_one_in_the_example_are_many_in_a_call() -> None:
    net = filled(Around(*WAYS["folded"][:2]))
    target = Target(net, X[:, :1])
    assert target.probe.calls["norm"][0].batch == 0  # so far it looks like the batch
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("norm"), seed=0)))
    mixed_equals_singles(model, X)
    mixed_equals_singles(model, X[:, :1])


def test_lengths_that_are_equal_in_the_example_are_told_apart() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor, n: Tensor) -> Tensor:
            order = n.sort(descending=True, stable=True).indices
            h = torch.tanh(self.layer(x[order]))
            seen = torch.arange(x.shape[1]) < n[order, None]
            return self.head((h * seen.unsqueeze(-1)).sum(1))[order.argsort()]

    target = Target(filled(Packed()), (X, torch.full((6,), 5)))
    assert target.probe.calls["layer"][0].batch is None
    assert target.probe.calls["head"][0].batch is None
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("layer"), seed=0)))
    n, ids = torch.tensor([1, 4, 2, 5, 3, 4]), [0, 1, 2, 0, 1, 2]
    close(model(X, n, task=ids), torch.cat([model(X[i : i + 1], n[i : i + 1], task=t) for i, t in enumerate(ids)]))


def test_experts_see_some_of_the_samples() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(4, 4)
            self.experts = nn.ModuleList(nn.Linear(4, 3) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.gate(x.mean(1))
            out = x.new_zeros(len(x), 3)
            for expert, rows in zip(self.experts, ((x[:, 0] > 0), (x[:, 0] <= 0)), strict=True):
                if bool(rows.any()):
                    out = out.index_put((rows.nonzero()[:, 0],), expert(x[rows]))
            return out

    target = Target(filled(Routed()), X)
    sites = target.outputs("experts.*", channel=-1, unused="skip")
    mixed_equals_singles(moved(Modulated(target, Modulator(Affine(), Table(3), sites, seed=0))), X)


class OfTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x.mean(1))
        return self.head(torch.tanh((h - h.mean(0)) / (h.std(0) + 0.1)))


def test_samples_that_meet_are_split_by_task() -> None:
    target = Target(filled(OfTheBatch()), X)
    assert target.probe.meets == "head"  # the first module that sees what has met
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("layer"), seed=0)))
    ids = [0, 1, 0, 1, 1, 0]
    mixed = model(X, task=ids)
    for task in (0, 1):
        rows = [i for i, t in enumerate(ids) if t == task]
        close(mixed[rows], model(X[rows], task=task))
    with refuses("samples of this network meet", "split by task alone", "'affine' reads 'input'"):
        Modulated(target, Modulator(Affine(), Hypernet("input", hidden=4), target.outputs("layer"), seed=0))
    with refuses("vmap=True", "samples of this one meet"):
        Modulated(target, Modulator(Affine(), Table(2), target.outputs("layer"), seed=0), vmap=True)


def test_images_that_meet() -> None:
    """No output of this network has two axes, and its first module puts out what has met."""

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x - x.mean(0))

    assert Target(filled(Centred()), draw(4, 2, 5, 5)).probe.meets == "conv"
    assert Target(filled(nn.Conv2d(2, 3, 1)), draw(4, 2, 5, 5)).probe.meets is None


def test_a_module_that_is_called_once_for_every_two_samples() -> None:
    class Chunked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([torch.tanh(self.layer(part.mean(1))) for part in x.split(2)])

    target = Target(filled(Chunked()), X)
    assert [call.batch for call in target.probe.calls["layer"]] == [None] * 3
    mixed_equals_singles(moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("layer"), seed=0))), X)


class WithGrid(nn.Module):
    """Frames mixed by a matrix that all samples share."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor, grid: Tensor, when: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(grid @ x) * when).mean(1))


@pytest.mark.parametrize("frames", [4, 6])
def test_inputs_that_all_samples_share(frames: int) -> None:
    x, grid, when = X[:, :frames], draw(frames, frames, seed=3), torch.tensor(0.7, dtype=torch.float64)
    net = filled(WithGrid())
    target = Target(net, (x, grid, when), batch_axis=(0, None, None))
    for modulator in (
        Modulator(Affine(), Table(3), target.outputs("layer"), seed=0),
        Modulator(Threshold(), Table(3), target.weights("*"), seed=0),
    ):
        model, ids = moved(Modulated(target, modulator)), [0, 1, 2, 2, 1, 0]
        alone = torch.cat([model(x[i : i + 1], grid, when, task=t) for i, t in enumerate(ids)])
        close(model(x, grid, when, task=ids), alone)
    with refuses("batch_axis=(0, 0, None)"):
        Target(net, (x, grid, when))
    with refuses("batch_axis=(0, None, None)"):
        Target(net, (x, grid, when), batch_axis=(0, 0, None))


def test_a_batch_axis_for_each_input() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
            return self.head(self.layer(x, src_key_padding_mask=hidden).mean(0))

    x, hidden = draw(5, 6, 8), torch.arange(5) > torch.tensor([[4], [3], [2], [4], [3], [4]])
    target = Target(filled(Masked()), (x, hidden), batch_axis=(1, 0))
    model, ids = (
        moved(Modulated(target, Modulator(Threshold(), Table(3), target.weights("*"), seed=0))),
        [0, 1, 2, 0, 1, 2],
    )
    alone = [model(x[:, i : i + 1], hidden[i : i + 1], task=t) for i, t in enumerate(ids)]
    close(model(x, hidden, task=ids), torch.cat(alone))


@pytest.mark.parametrize(
    ("example", "axis", "parts"),
    [
        ({"x": X}, 0, ("by position", "dict")),
        ((X, None), 0, ("input 1 is a NoneType",)),
        ((), 0, ("one tensor or several",)),
        ((6, 4), 0, ("input 0 is a int",)),
        (X.numpy(), 0, ("by position", "ndarray")),
        (X, 5, ("the batch on axis 5",)),
        (X, "0", ("batch_axis must be an integer",)),
        (X, (0, 0), ("one for each of 1 inputs",)),
        (X, None, ("batch_axis is one axis",)),
        (X[:0], 0, ("at least one sample",)),
        (X.to_sparse(), 0, ("dense tensor",)),
        ((X, X[:3]), 0, ("sizes [6, 3]", "batch_axis=(0, None)")),
    ],
)
def test_examples_that_say_nothing(example: Any, axis: Any, parts: tuple[str, ...]) -> None:
    with refuses(*parts):
        Target(nn.Linear(4, 3).double(), example, batch_axis=axis)


@pytest.mark.parametrize("error", [AssertionError("even batches"), IndexError("out of range"), KeyError("x")])
def test_whatever_a_network_raises_is_said(error: Exception) -> None:
    class Raises(nn.Module):
        def __init__(self, at: int) -> None:
            super().__init__()
            self.at, self.layer = at, nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            if len(x) % 2 == self.at:
                raise error
            return self.layer(x.float())

    with refuses("must accept any batch size", "failed at 7", type(error).__name__):
        Target(Raises(1), X)
    with refuses("a target runs on its example", type(error).__name__) as refused:
        Target(Raises(0), X)
    assert isinstance(refused.value, ExampleError)
    assert refused.value.__cause__ is error


class Cut(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.body, self.head, self.how = nn.Linear(4, 5), nn.Linear(5, 3), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                h = self.body(x)
        elif self.how == "detach":
            h = self.body(x).detach()
        else:
            h = F.linear(x, self.body.weight.data, self.body.bias)
        return self.head(h.mean(1))


@pytest.mark.parametrize("how", ["no_grad", "detach", "data"])
def test_a_site_that_never_learns_is_refused(how: str) -> None:
    target = Target(Cut(how).double(), X)
    with refuses("'body.weight'", "receives no gradient", "unused='skip'"):
        target.weights("*")
    assert [s.name for s in target.weights("*", unused="skip")] == ["head.weight"]
    if how != "data":
        with refuses("'body'", "receives no gradient"):
            target.outputs("body")


def test_a_branch_that_is_not_taken_names_all_its_sites() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x.mean(1))

    target = Target(Branch().double(), X)
    with refuses("'idle.0.weight', 'idle.1.weight', 'idle.2.weight' is not"):
        target.weights("*")
    with pytest.raises(RefusedError):
        target.weights("idle*", unused="skip")
    assert [s.name for s in target.weights(unused="skip")] == ["used.weight"]
