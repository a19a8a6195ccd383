"""A row of weights a sample: through taps where its kind allows, and equal to weights that are built."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Generated,
    Hypernet,
    Kind,
    LowRankDelta,
    Modulated,
    Modulator,
    Rank1,
    Table,
    Target,
    Threshold,
    TopK,
)
from tasks.networks import Lstm, conv, mlp
from tests.contract import slow
from tests.contract.laws import close, gradients, loss_of

SIZE = 6


def drawn(net: nn.Module, *shape: int) -> Target:
    """A target of random float64 weights, biases too."""
    rng = torch.Generator().manual_seed(3)
    net = net.double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=rng, dtype=torch.float64) * 0.3)
    return Target(net, torch.randn(SIZE, *shape, generator=rng, dtype=torch.float64))


def moved(model: Modulated) -> Modulated:
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=rng, dtype=torch.float64) * 0.3)
    return model


def calls_of(model: Modulated) -> list[int]:
    """Batch sizes of the calls of the skeleton."""
    sizes: list[int] = []
    model.skeleton.net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    return sizes


def agrees(model: Modulated, tasks: Sequence[int] | None = None, calls: list[int] | None = None) -> None:
    """Outputs and gradients equal those of one sample at a time, in as many calls as expected."""
    x = model.target.example[0]
    sizes = calls_of(model)
    output = model(x) if tasks is None else model(x, task=tasks)
    assert calls is None or sizes == calls
    given = list(tasks) if tasks is not None else [0] * SIZE
    truth = slow.outputs(model, x, given, torch.zeros(SIZE), None)
    close(output, truth)
    found, expected = gradients(model, loss_of(output)), gradients(model, loss_of(truth))
    for name, gradient in expected.items():
        close(found[name], gradient)


def linear() -> Target:
    return drawn(mlp((5,), 4, (7, 6), norm="layer", bias=True), 5)


@pytest.mark.parametrize("kind", [Rank1(), Rank1("hard"), LowRankDelta(2, alpha=3.0)])
def test_a_row_a_sample_runs_in_one_call(kind: Kind) -> None:
    target = linear()
    model = moved(Modulated(target, Modulator(kind, Hypernet("input", hidden=4), target.weights("*"), seed=0)))
    agrees(model, calls=[SIZE])


@pytest.mark.parametrize("kind", [Rank1(), LowRankDelta(2)])
def test_tasks_of_a_table_run_in_one_call(kind: Kind) -> None:
    target = linear()
    model = moved(Modulated(target, Modulator(kind, Table(9), target.weights("*"), seed=0)))
    agrees(model, [8, 0, 0, 3, 8, 1], calls=[SIZE])
    for task in (0, 3, 8):
        model.seal(task)
    x = target.example[0]
    sizes = calls_of(model)
    sealed = model(x, task=[8, 0, 0, 3, 8, 0])
    assert sizes == [SIZE]
    close(sealed[1:3], model(x[1:3], task=0))
    close(sealed[3:4], model(x[3:4], task=3))


def test_convolutions_scale_channels() -> None:
    target = drawn(conv((2, 6, 6), 4, (3, 5)), 2, 6, 6)
    model = moved(Modulated(target, Modulator(Rank1(), Hypernet("input", hidden=4), target.weights("*"), seed=0)))
    agrees(model, calls=[SIZE])


def test_low_rank_convolutions_are_split() -> None:
    target = drawn(conv((2, 6, 6), 4, (3, 5)), 2, 6, 6)
    model = moved(Modulated(target, Modulator(LowRankDelta(2), Table(2), target.weights("*"), seed=0)))
    agrees(model, [0, 1, 0, 1, 1, 0], calls=[3, 3])


def test_grouped_and_transposed_convolutions_are_split() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.ConvTranspose2d(6, 3, 2), nn.Flatten())
    target = drawn(net, 4, 5, 5)
    assert [site.batch for site in target.weights("*")] == [None, None]
    model = moved(Modulated(target, Modulator(Rank1(), Table(2), target.weights("*"), seed=0)))
    agrees(model, [0, 1, 0, 1, 1, 0], calls=[3, 3])


def test_recurrent_weights_are_split() -> None:
    target = drawn(Lstm((4, 3), 4, 5), 4, 3)
    model = moved(Modulated(target, Modulator(Rank1(), Table(2), target.weights("*"), seed=0)))
    agrees(model, [0, 1, 0, 1, 1, 0], calls=[3, 3])


def test_a_tied_weight_is_split() -> None:
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    net[2].weight = net[0].weight
    target = drawn(net, 5)
    model = moved(Modulated(target, Modulator(Rank1(), Table(2), target.weights("*"), seed=0)))
    agrees(model, [0, 1, 0, 1, 1, 0], calls=[3, 3])


class ReadTwice(nn.Module):
    """A layer whose tensors are read outside its own call as well."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.fc, self.how = nn.Linear(5, 5), how

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.fc(x))
        match self.how:
            case "transposed":
                return nn.functional.linear(h, self.fc.weight.t())
            case "bypassed":
                return h + self.fc.forward(x)
            case "bias":
                return h * self.fc.bias
            case _:
                return h + self.fc(input=x)


@pytest.mark.parametrize("kind", [Rank1(), LowRankDelta(2)])
@pytest.mark.parametrize("how", ["transposed", "bypassed", "bias", "keyword"])
def test_a_weight_that_is_read_elsewhere_is_split(how: str, kind: Kind) -> None:
    target = drawn(ReadTwice(how), 5)
    model = moved(Modulated(target, Modulator(kind, Table(2), target.weights("*"), seed=0)))
    agrees(model, [0, 1, 0, 1, 1, 0], calls=[3, 3])


@pytest.mark.parametrize("kind", [Rank1(), LowRankDelta(2)])
def test_hooks_tied_biases_and_root_layers_are_split(kind: Kind) -> None:
    hooked, tied = nn.Linear(5, 5), nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    hooked.register_forward_hook(_add_input)
    tied[2].bias = tied[0].bias
    for net, pattern in ((nn.Sequential(hooked), "*"), (tied, "0.weight"), (nn.Linear(5, 4), "*")):
        target = drawn(net, 5)
        model = moved(Modulated(target, Modulator(kind, Table(2), target.weights(pattern), seed=0)))
        agrees(model, [0, 1, 0, 1, 1, 0], calls=[3, 3])


def _add_input(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    return output + args[0]


def test_a_mixed_batch_under_autocast_has_the_dtype_of_a_single_sample() -> None:
    target = Target(mlp((5,), 4, (7, 6), bias=True), torch.randn(SIZE, 5))
    model = Modulated(target, Modulator(Rank1(), Table(2), target.weights("*"), seed=0))
    x = target.example[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x, task=[0, 1] * 3).dtype == model(x, task=0).dtype == torch.bfloat16


class TimeFirst(nn.Module):
    """Tokens run time-first through a linear layer, then batch-first through another, of more axes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.inner(x.transpose(0, 1))).transpose(0, 1)
        return self.outer(h.unflatten(1, (2, 3))).flatten(1)


@pytest.mark.parametrize("kind", [Rank1(), LowRankDelta(2)])
def test_the_batch_axis_is_the_layers_own(kind: Kind) -> None:
    target = drawn(TimeFirst(), 6, 3)  # as many steps as samples
    assert [site.batch for site in target.weights("*")] == [1, 0]
    model = moved(Modulated(target, Modulator(kind, Hypernet("input", hidden=4), target.weights("*"), seed=0)))
    agrees(model, calls=[SIZE])


@pytest.mark.parametrize("kind", [Rank1(), LowRankDelta(2)])
def test_taps_stand_on_what_earlier_modulators_wrote_and_under_output_taps(kind: Kind) -> None:
    target = linear()
    layers = target.outputs(nn.Linear)
    model = Modulated(
        target,
        Modulator(Affine(), Hypernet("input", hidden=3), layers, seed=1),
        Modulator(Threshold(), Table(2), target.weights("*"), seed=2),
        Modulator(kind, Hypernet("input", hidden=4), target.weights("*"), seed=3),
        Modulator(Affine(), Table(2), layers, seed=4),
    )
    agrees(moved(model), [0, 1, 0, 1, 1, 0], calls=[3, 3])
    agrees(moved(model), [1] * SIZE, calls=None)


def test_a_weight_that_is_written_later_is_built() -> None:
    # (W + B A) * M is not W * M + B A: the tap would come too late.
    target = linear()
    model = Modulated(
        target,
        Modulator(LowRankDelta(2), Table(3), target.weights("*"), seed=3),
        Modulator(Threshold(), Table(3), target.weights("1.weight"), seed=2),
    )
    agrees(moved(model), [0, 1, 2, 1, 2, 0], calls=[2, 2, 2])


def test_one_sample_has_its_weights_built() -> None:
    target = linear()
    model = Modulated(target, Modulator(Rank1(), Hypernet("input"), target.weights("*"), seed=0, identity=True))
    x = target.example[0][:1]
    assert torch.equal(model(x), target(x))


@pytest.mark.parametrize("kind", [Rank1("hard"), LowRankDelta(2), Threshold(), TopK(), Generated()])
def test_rows_under_vmap_build_the_same_weights(kind: Kind) -> None:
    target = linear()
    split, mapped = (
        moved(
            Modulated(
                target,
                Modulator(kind, Hypernet("input", hidden=4), target.weights("*"), seed=0),
                Modulator(Affine(), Table(2), target.norms(), seed=0),
                vmap=vmap,
            )
        )
        for vmap in (False, True)
    )
    ids, x = [0, 1, 1, 0, 0, 1], target.example[0]
    close(mapped(x, task=ids), split(x, task=ids))
    expected = gradients(split, loss_of(split(x, task=ids)))
    for name, gradient in gradients(mapped, loss_of(mapped(x, task=ids))).items():
        close(gradient, expected[name])


def test_a_hard_mask_of_rank_one_is_binary_and_starts_open() -> None:
    target = linear()
    model = Modulated(target, Modulator(Rank1("hard"), Table(1), target.weights("*"), seed=0))
    assert torch.equal(model(target.example[0], task=0), target(target.example[0]))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.linspace(-1, 1, len(p)))
    weight = dict(target.pristine.named_parameters())["1.weight"]
    share = (model.edits(task=0)["1.weight"] / weight).detach()
    assert set(share.unique().tolist()) <= {0.0, 1.0}
    assert 0 < float(share.mean()) < 1


def test_batch_statistics_go_with_taps_on_weights_and_not_with_built_ones() -> None:
    from neuromod import RefusedError, Statistics

    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)).double()
    target = Target(net, torch.randn(SIZE, 5, dtype=torch.float64), norm="batch")
    statistics = Modulator(Statistics(), Table(1), target.statistics(), seed=0)
    for kind in (Rank1(), LowRankDelta(2)):
        each = Modulator(kind, Hypernet("input", hidden=4), target.weights("*"), seed=0)
        Modulated(target, each, statistics).train()(target.example[0], task=0).sum().backward()
    masks = Modulator(Threshold(), Hypernet("input", hidden=4), target.weights("*"), seed=0)
    with pytest.raises(RefusedError, match="split them one by one"):
        Modulated(target, masks, statistics)


def test_a_shift_without_a_gain() -> None:
    target = drawn(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), 5)
    skeleton, (x,) = target.skeleton(target.outputs("1")), target.example
    shift = torch.arange(24.0, dtype=torch.float64).reshape(6, 4)
    hidden = target.pristine[:2](x)  # type: ignore[index]
    close(skeleton({"1.tap_bias": shift[0]}, (x,)), target.pristine[2](hidden + shift[0]))  # type: ignore[index]
    close(skeleton({"1.tap_bias": shift}, (x,)), target.pristine[2](hidden + shift))  # type: ignore[index]
