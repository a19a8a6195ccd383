"""Contexts that change inside a sequence, and the check that a reservoir forgets its start."""

import pytest
import torch
from torch import Tensor

from neuromod import (
    Affine,
    Conceptor,
    Gate,
    Hypernet,
    LowRankDelta,
    Modulated,
    Modulator,
    RefusedError,
    Table,
    Target,
    give,
)
from neuromod.reservoirs import Reservoir, bound, echo_state, unroll
from tests.reservoirs.test_network import close, slowly

RNG = torch.Generator().manual_seed(8)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


def modulated(net: Reservoir, kind: object = None, tasks: int = 2) -> Modulated:
    target = Target(net, net.example())
    sites = target.weights("recurrent.weight") if isinstance(kind, LowRankDelta) else target.outputs("drive")
    model = Modulated(target, Modulator(kind or Affine(), Table(tasks), sites, seed=0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * randn(*parameter.shape)
    return model


def gains(model: Modulated, *values: float) -> Modulated:
    for task, value in enumerate(values):
        give(*model.named_modulators().values(), task, {"gain": torch.full((model.target.pristine.units,), value)})
    return model


@pytest.mark.parametrize("kind", [Affine(), LowRankDelta(2)], ids=str)
def test_a_schedule_is_the_steps_one_by_one(kind: object) -> None:
    net = Reservoir(6, 1, bias_scale=0.2, seed=1)
    model = modulated(net, kind)
    u, x = randn(2, 9, 1), randn(2, 6)
    ids = torch.tensor([[0, 0, 1, 1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0, 1, 1]])
    found = unroll(model, u, task=ids, start=x)
    for b in range(2):
        state = x[b : b + 1]
        for t in range(9):
            state = model(u[b : b + 1, t : t + 1], state, task=int(ids[b, t]))[:, 0]
            close(found[b, t], state[0])
    close(unroll(model, u, task=ids[0], start=x)[0], found[0])
    close(unroll(model, u, task=1, start=x), model(u, x, task=1))
    close(unroll(model, u, task=1, start=x, every=2), model(u, x, task=1))


def test_gain_and_bias_of_the_step_are_those_of_the_equation() -> None:
    net = Reservoir(5, 1, bias_scale=0.2, leak=0.6, seed=1)
    model, u, state = modulated(net), randn(1, 4, 1), torch.zeros(5, dtype=torch.float64)
    found = unroll(model, u, task=[0, 1, 1, 0])
    for t, task in enumerate([0, 1, 1, 0]):
        row = {k.partition("/")[2]: v.detach() for k, v in model.named_modulators()["affine"].source.own(task).items()}
        state = slowly(net, u[0, t : t + 1], state, row["gain"], row["bias"])[0]
        close(found[0, t], state)


def test_a_sequence_may_be_one_step() -> None:
    model = modulated(Reservoir(6, seed=1))
    u = randn(2, 4, 1)
    whole = unroll(model, u, task=[0, 1, 0, 1])
    first = unroll(model, u[:, :1], task=0)
    close(first, whole[:, :1])
    close(unroll(model, u[:, 1:2], task=[1], start=first[:, -1]), whole[:, 1:2])


def test_a_condition_and_an_input_of_each_step() -> None:
    net = Reservoir(6, 2, seed=1)
    target = Target(net, net.example(steps=1))
    by_input = Modulated(
        target, Modulator(Gate("doubled"), Hypernet("input", hidden=4), target.outputs("drive"), seed=0)
    )
    by_condition = Modulated(
        target, Modulator(Affine(), Hypernet("condition", labels=3, hidden=4), target.outputs("drive"))
    )
    for model in (by_input, by_condition):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * randn(*parameter.shape)
    u, x = randn(2, 5, 2), randn(2, 6)
    found, state = unroll(by_input, u, start=x, every=1), x
    for t in range(5):
        state = by_input(u[:, t : t + 1], state)[:, 0]
        close(found[:, t], state)
    assert float((found - net(u, x)).detach().abs().max()) > 1e-3


def test_gradients_reach_a_task_through_a_schedule() -> None:
    model = modulated(Reservoir(6, 1, seed=1))
    unroll(model, randn(1, 6, 1), task=[0, 0, 1, 1, 0, 0])[:, -1].sum().backward()
    assert all(float(p.grad.abs().max()) > 0 for p in model.parameters())  # type: ignore[union-attr]
    model.target.verify()


def test_two_starts_under_gains() -> None:
    """Measured at 200 units, radius .9: a gain of 1.1 merges, 1.2 does not, 1.2 and .8 in turns do (facts of the field)."""
    net = Reservoir(60, radius=0.9, input_scale=0.1, seed=0)
    u = 0.5 * torch.rand(2500, 1, generator=RNG, dtype=torch.float64)
    model = modulated(net, tasks=1)
    zero = {"bias": torch.zeros(60)}
    give(*model.named_modulators().values(), 0, zero | {"gain": torch.full((60,), 0.8)})
    echo = echo_state(model, u)
    assert echo.holds
    assert echo.distances["task 0"] < 1e-10
    assert 0.5 < echo.factors["task 0"] < 0.95
    both = modulated(net, tasks=2)
    for task, value in enumerate((1.5, 0.6)):
        give(*both.named_modulators().values(), task, zero | {"gain": torch.full((60,), value)})
    with pytest.raises(
        RefusedError, match=r"two starts are .* apart after 2500 steps in task 0, a factor of .* a step"
    ):
        echo_state(both, u)
    with pytest.warns(UserWarning, match="lower the radius or the gains$"):
        said = echo_state(both, u, otherwise="warn", dwell=25)
    assert not said.holds
    assert said.distances["task 1"] < 1e-10
    assert said.distances["switching at random"] < 1e-10
    assert said.distances["switching in turns"] < 1e-10
    assert echo_state(both, u, tasks=[1]).holds


def test_contexts_that_forget_alone_may_not_while_they_switch() -> None:
    """Two gains of spectral radius below 1 each, whose product stretches: per-context radii prove nothing."""
    net = Reservoir(2, input_scale=0.0)
    with torch.no_grad():
        net.recurrent.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    model = modulated(net)
    for task, gain in enumerate(([3.0, 0.1], [0.1, 3.0])):
        values = {"gain": torch.tensor(gain), "bias": torch.zeros(2)}
        give(*model.named_modulators().values(), task, values)
    u = torch.zeros(800, 1, dtype=torch.float64)
    echo = echo_state(model, u, dwell=1, otherwise="report")
    assert max(echo.distances["task 0"], echo.distances["task 1"]) < 1e-10
    assert echo.distances["switching in turns"] > 1e-3
    assert not echo.proven
    with pytest.raises(RefusedError, match="switching in turns"):
        echo_state(model, u, dwell=1)


def test_the_bound_is_the_norm_of_what_a_step_may_stretch() -> None:
    net = Reservoir(20, leak=0.7, seed=1)
    target = Target(net, net.example())
    inner = Modulator(Affine(), Table(2), target.outputs("drive"))
    outer = Modulator(Conceptor(), Table(2), target.outputs("state"))
    model = Modulated(target, inner, outer)
    gain = torch.rand(20, generator=RNG, dtype=torch.float64)
    give(inner, 0, {"gain": gain})
    w = net.recurrent.weight.detach()
    stretched = float(torch.linalg.matrix_norm(gain[:, None] * w, 2))
    assert bound(model, 0) == pytest.approx(0.3 + 0.7 * stretched)
    give(outer, 0, {"half": 0.5 * outer.source.own(0)["state/half"].detach()})
    assert bound(model, 0) == pytest.approx(0.5 * (0.3 + 0.7 * stretched))
    for task in range(2):
        give(inner, task, {"gain": 0.9 * torch.ones(20) / float(torch.linalg.matrix_norm(w, 2))})
    echo = echo_state(model, torch.randn(300, 1, generator=RNG, dtype=torch.float64))
    assert echo.proven
    assert max(echo.factors.values()) <= max(echo.bounds.values())


NET = Reservoir(6, seed=1)
MODEL = modulated(NET)
U = randn(2, 5, 1)
_PLAIN = Target(torch.nn.Sequential(torch.nn.Linear(1, 3)), torch.ones(2, 1))
STATELESS = Modulated(_PLAIN, Modulator(Affine(), Table(2), _PLAIN.outputs("0")))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: unroll(MODEL, U, task=[0, 1]), r"2 sequences of 5 steps; got \(2,\)"),
        (lambda: unroll(MODEL, U, task=torch.zeros(3, 5, dtype=torch.long)), "match them"),
        (lambda: unroll(MODEL, U, task="x"), "ids of tasks by step"),
        (lambda: unroll(MODEL, U, task=0.5), "ids of tasks by step"),
        (lambda: unroll(MODEL, U, task=[0, 1, 5, 0, 0]), "a task must be known; got task 5"),
        (lambda: unroll(MODEL, U, task=0, every=0), "every must be"),
        (lambda: unroll(MODEL, U, task=0, start=torch.full((2, 6), torch.nan)), "to start from must be finite"),
        (lambda: unroll(MODEL, U, task=0, start=torch.zeros(6)), r"are \(B, N\), here \(2, 6\)"),
        (
            lambda: unroll(MODEL, U, task=0, condition=torch.full((5, 2), torch.nan)),
            "conditions of a schedule must be finite",
        ),
        (lambda: unroll(MODEL, U, task=0, condition=U), "no modulator reads it"),
        (lambda: unroll(MODEL, torch.full((2, 5, 1), torch.nan), task=0), "finite"),
        (lambda: unroll(NET, U, task=0), "what is unrolled must be a Modulated"),
        (lambda: echo_state(MODEL, U), "one sequence"),
        (lambda: echo_state(STATELESS, U[0]), "takes no states"),
        (lambda: echo_state(MODEL, U[0], otherwise="x"), "otherwise must be one of"),
        (lambda: echo_state(MODEL, U[0], tasks=[0, 0]), "distinct"),
        (lambda: echo_state(NET, U[0]), "what is checked must be a Modulated"),
    ],
)
def test_a_mistake_gets_one_line(made: object, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        made()  # type: ignore[operator]
    assert "\n" not in str(refused.value)


def test_a_target_that_takes_no_state_can_not_be_handed_one() -> None:
    target = Target(NET, NET.example()[0])
    model = Modulated(target, Modulator(Affine(), Table(1), target.outputs("drive")))
    with pytest.raises(RefusedError, match="takes no states"):
        unroll(model, U, task=0)


class Plain(torch.nn.Module):
    """A recurrent network that is no `Reservoir`."""

    units, inputs = 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.back = torch.nn.Linear(4, 4).double()
        self.into = torch.nn.Linear(1, 4).double()
        self.drive = torch.nn.Identity()
        with torch.no_grad():
            self.back.weight.copy_(0.3 * torch.eye(4))

    def forward(self, u: Tensor, x: Tensor) -> Tensor:
        """States (B, T, 4)."""
        found = []
        for step in u.unbind(1):
            x = torch.tanh(self.drive(self.back(x) + self.into(step)))
            found.append(x)
        return torch.stack(found, 1)


def test_another_network_is_judged_by_two_starts_and_has_no_bound() -> None:
    target = Target(Plain(), (randn(2, 3, 1), randn(2, 4)))
    model = Modulated(target, Modulator(Affine(), Table(2), target.outputs("drive")))
    with pytest.raises(RefusedError, match="judge others by two starts"):
        bound(model, 0)
    echo = echo_state(model, randn(200, 1))
    assert echo.holds
    assert not echo.proven


def test_a_warning_names_the_line_that_asked() -> None:
    model = modulated(Reservoir(6, radius=3.0, input_scale=0.1, seed=1))
    with pytest.warns(UserWarning, match="forgets its start") as warned:
        echo_state(model, torch.zeros(50, 1), otherwise="warn")
    assert warned[0].filename == __file__
