"""Reservoirs are what the equation says, drawn as they are asked for, and modulated through their sites."""

import pytest
import torch
from torch import Tensor

from neuromod import (
    Affine,
    Conceptor,
    Gate,
    LowRankDelta,
    Modulated,
    Modulator,
    Rank1,
    RefusedError,
    Table,
    Target,
    TopK,
    give,
)
from neuromod.reservoirs import Reservoir, spectral_radius, states, upper, whole
from neuromod.reservoirs.draws import FORMS, pi_digits, recurrent
from tests.reservoirs import slow

RNG = torch.Generator().manual_seed(5)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> None:
    assert a.shape == b.shape
    assert float((a - b).detach().abs().max()) < tol


def slowly(net: Reservoir, u: Tensor, x: Tensor, gain: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    ones = torch.ones(net.units, dtype=torch.float64)
    parts = (net.recurrent.weight, net.input.weight, net.input.bias)
    w, w_in, b = (p.detach() for p in parts)
    return slow.states(w, w_in, b, u, net.leak, x, ones if gain is None else gain, 0 * ones if bias is None else bias)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_states_are_those_of_the_equation(form: str, leak: float) -> None:
    net = Reservoir(7, 2, form=form, density=0.4, bias_scale=0.3, leak=leak, seed=3)
    u, x = randn(2, 5, 2), randn(2, 7)
    truth = torch.stack([slowly(net, u[i], x[i]) for i in range(2)])
    close(net(u, x), truth)
    close(states(net, u, x[None])[0], truth)
    close(states(net, u[:1], x[None, :1])[0], truth[:1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 3])
def test_many_reservoirs_in_one_call_are_each_alone(form: str, batch: int) -> None:
    nets = [Reservoir(20, form=form, leak=0.2 + 0.4 * s, bias_scale=0.1, seed=s) for s in range(3)]
    u = randn(batch, 300, 1)
    close(states(nets, u), torch.stack([net(u) for net in nets]), 1e-12)
    own = randn(3, batch, 40, 1)
    close(states(nets, own), torch.stack([net(v) for net, v in zip(nets, own, strict=True)]), 1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_spectral_radius_is_the_one_asked_for(form: str) -> None:
    assert spectral_radius(recurrent(40, form, 0.83, 0.2, 1)) == pytest.approx(0.83, abs=1e-9)


def test_a_ring_of_unequal_weights_is_rolled_right() -> None:
    net, u = Reservoir(9, form="ring", bias_scale=0.1), randn(2, 30, 1)
    with torch.no_grad():
        net.recurrent.weight.mul_(torch.rand(9, 1, generator=RNG, dtype=torch.float64))
    close(states(net, u)[0], net(u))
    close(states([net, net], u)[1], net(u))


def test_draws_have_generators_of_their_own() -> None:
    a, b = Reservoir(9, seed=1, input_scale=0.5), Reservoir(9, seed=1, input_scale=0.5, bias_scale=2.0, radius=0.3)
    assert torch.equal(a.input.weight, b.input.weight)
    close(a.recurrent.weight * (0.3 / 0.9), b.recurrent.weight, 1e-12)
    assert not torch.equal(a.recurrent.weight, Reservoir(9, seed=2).recurrent.weight)
    state = torch.get_rng_state()
    Reservoir(9, form="sparse")
    assert torch.equal(state, torch.get_rng_state())


def test_a_sparse_reservoir_keeps_the_share_asked_for() -> None:
    w = recurrent(50, "sparse", 0.9, 0.1, 0)
    assert int((w != 0).sum()) == 250


def test_a_ring_is_exact() -> None:
    """Unit i hears unit i - 1 alone; a pulse is r^k further on after k steps, and the signs are those of pi."""
    assert pi_digits(20) == [1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6]
    net = Reservoir(20, form="ring", radius=0.5, input_scale=1e-6)
    signs = [1.0 if d > 4 else -1.0 for d in pi_digits(20)]
    assert (net.input.weight[:, 0] / 1e-6).tolist() == pytest.approx(signs)
    u = torch.zeros(1, 4, 1, dtype=torch.float64)
    u[0, 0] = 1
    x = net(u)[0, 3]
    close(x, 1e-6 * 0.5**3 * torch.tensor(signs, dtype=torch.float64).roll(3), 1e-12)


def sites_of(target: Target, kind: object) -> tuple:
    return target.weights("recurrent.weight") if "weight" in type(kind).roles else target.outputs("drive", "state")


@pytest.mark.parametrize("kind", [Affine(), Gate("doubled"), LowRankDelta(2), Rank1(), TopK(0.5), Conceptor()], ids=str)
def test_every_kind_acts_on_a_frozen_reservoir(kind: object) -> None:
    """Tasks of a mixed batch are the tasks alone, differ from one another, and survive being sealed; W stays."""
    net = Reservoir(8, 1, bias_scale=0.2, leak=0.7, seed=1)
    target = Target(net, net.example())
    model = Modulated(target, Modulator(kind, Table(3), sites_of(target, kind), seed=0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * randn(*parameter.shape)
    u, x = randn(3, 6, 1), randn(3, 8)
    mixed = model(u, x, task=[0, 1, 2])
    close(mixed, torch.cat([model(u[t : t + 1], x[t : t + 1], task=t) for t in range(3)]))
    assert float((model(u, x, task=0) - model(u, x, task=1)).detach().abs().max()) > 1e-3
    model.seal(1)
    close(model(u, x, task=[0, 1, 2]), mixed)
    target.verify()


def test_gain_and_bias_stand_inside_the_tanh() -> None:
    net = Reservoir(6, 1, bias_scale=0.2, leak=0.6, seed=2)
    target = Target(net, net.example())
    model = Modulated(target, Modulator(Affine(), Table(1), target.outputs("drive")))
    gain, bias = randn(6), randn(6)
    give(*model.named_modulators().values(), 0, {"gain": gain, "bias": bias})
    u, x = randn(1, 5, 1), randn(1, 6)
    close(model(u, x, task=0)[0], slowly(net, u[0], x[0], gain, bias))


def test_a_conceptor_stands_behind_the_leak() -> None:
    net = Reservoir(5, 1, leak=0.5, seed=2)
    target = Target(net, net.example())
    model = Modulated(target, Modulator(Conceptor(), Table(1), target.outputs("state")))
    half = randn(15)
    give(*model.named_modulators().values(), 0, {"half": half})
    u, x = randn(1, 4, 1), randn(5)
    truth, state = [], x
    for t in range(4):
        state = whole(half, 5) @ slowly(net, u[0, t : t + 1], state)[0]
        truth.append(state)
    close(model(u, x[None], task=0)[0], torch.stack(truth))


def test_half_of_a_matrix_is_all_of_it() -> None:
    m = randn(3, 6, 6)
    m = m + m.mT
    assert torch.equal(whole(upper(m), 6), m)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Reservoir(0), "units of a reservoir must be"),
        (lambda: Reservoir(5, form="rng"), "try 'ring'"),
        (lambda: Reservoir(5, leak=0), "leak must be"),
        (lambda: Reservoir(5, radius=-1), "radius must be"),
        (lambda: Reservoir(5, form="sparse", density=0.01), "have a loop"),
        (lambda: Reservoir(5, density=7.0), "density must be"),
        (lambda: Reservoir(5)(torch.zeros(2, 3, 1), torch.zeros(2, 4)), r"are \(B, N\), here \(2, 5\)"),
        (
            lambda: states(Reservoir(5), torch.zeros(1, 3, 1), torch.full((1, 1, 5), torch.nan)),
            "to start from must be finite",
        ),
        (lambda: Reservoir(5)(torch.zeros(2, 3)), "inputs of a reservoir are"),
        (lambda: Reservoir(5)(torch.zeros(2, 0, 1).double()), "a step or more"),
        (lambda: states(Reservoir(5), [torch.zeros(4, 1), torch.zeros(5, 1)]), "one length; got .4, 1., .5, 1."),
        (lambda: states(Reservoir(5), torch.full((1, 3, 1), torch.nan)), "NaN or infinity at step 0 of 3"),
        (lambda: states([Reservoir(5), Reservoir(6)], torch.zeros(1, 3, 1)), "one number of units"),
        (lambda: states([], torch.zeros(1, 3, 1)), "states are those of reservoirs"),
        (lambda: states(Reservoir(5), torch.zeros(2, 1, 3, 1)), "for R reservoirs; got 2 for 1"),
        (lambda: states(Reservoir(5), torch.zeros(1, 3, 1), torch.zeros(1, 5)), r"are \(R, B, N\)"),
    ],
)
def test_a_mistake_gets_one_line(made: object, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        made()  # type: ignore[operator]
    assert "\n" not in str(refused.value)


def test_inputs_are_taken_in_the_dtype_of_the_weights_by_every_call() -> None:
    net = Reservoir(5, seed=1)
    u, x = torch.linspace(-1, 1, 6).view(1, 6, 1), torch.full((1, 5), 0.1)
    expected = net(u.double(), x.double())
    assert torch.equal(net(u, x), expected)
    close(states(net, u, x[None])[0], expected)
    target = Target(net, net.example())
    model = Modulated(target, Modulator(Affine(), Table(1), target.outputs("drive")))
    assert torch.equal(model(u, x, task=0), model(u.double(), x.double(), task=0))
