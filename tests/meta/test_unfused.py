"""Norms with a gain of their own inside a network are exact at second order by both engines; what can't be is refused."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neuromod import Affine, Generated, Modulated, Modulator, RefusedError, Table, Target
from neuromod.meta import SGD, Adam, Episodes, Functional, adapt, cavia, maml, online, reptile
from neuromod.meta.inner import Engine
from tests.meta.nets import draw, filled, same
from tests.refusals import refuses

ENGINES: tuple[Engine, ...] = ("func", "autograd")
LABELS = torch.arange(18).view(3, 6) % 3
EPISODES = Episodes((draw(3, 6, 4, seed=1), LABELS), (draw(3, 5, 4, seed=2), LABELS[:, 1:]))


class Own(nn.Module):
    """A norm of the user's own, which calls a function of torch with its gain and shift."""

    def __init__(self, norm: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.norm, self.weight, self.bias = norm, nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x, self.weight, self.bias)


def waves(x: Tensor) -> Tensor:
    """(B, C) to (B, C, 3), so that a channel of a sample has a deviation."""
    return torch.stack([x, x.square(), x.sin()], -1)


MEAN, VARIANCE = draw(8, seed=5), draw(8, seed=6).square() + 0.5
NORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "layer": lambda x, w, b: F.layer_norm(x, w.shape, w, b),
    "layer without a shift": lambda x, w, b: F.layer_norm(x, (8,), weight=w) + b,
    "layer, by torch": lambda x, w, b: torch.layer_norm(x, (8,), w, b, 1e-3),
    "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "batch, measured": lambda x, w, b: F.batch_norm(x, MEAN, VARIANCE, w, b),
    "batch, by torch": lambda x, w, b: torch.batch_norm(x, w, b, None, None, True, 0.1, 1e-3, False),
    "instance": lambda x, w, b: F.instance_norm(waves(x), weight=w, bias=b).square().mean(-1),
    "instance, by torch": lambda x, w, b: torch.instance_norm(
        waves(x), w, b, None, None, use_input_stats=True, momentum=0.1, eps=1e-3, cudnn_enabled=False
    ).amax(-1),
    "group": lambda x, w, b: F.group_norm(x, 2, w, b),
    "rms": lambda x, w, b: F.rms_norm(x, (8,), w) + b,
}


def own(norm: Callable[[Tensor, Tensor, Tensor], Tensor]) -> nn.Module:
    inner = nn.Sequential(nn.Linear(8, 8), Own(norm))
    return filled(nn.Sequential(nn.Linear(4, 8), Own(norm), nn.Tanh(), inner, nn.Tanh(), nn.Linear(8, 3)))


def modulated(norm: nn.Module, *around: nn.Module) -> nn.Module:
    """The norm's gain is edited by its name, and the layer behind it is generated."""
    before, after = around[:2], around[2:]
    net = filled(nn.Sequential(*before, nn.Linear(4, 8), norm, *after, nn.Tanh(), nn.Linear(8, 3)))
    place, last = str(len(before) + 1), str(len(before) + len(after) + 3)
    target = Target(net, draw(5, 4))
    gains = Modulator(Affine("uniform"), Table(None), target.outputs(place), seed=0)
    return Modulated(target, gains, Modulator(Generated(), Table(None), target.weights(f"{last}.weight"), seed=0))


class Waves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return waves(x)


NETS: dict[str, Callable[[], nn.Module]] = {
    **{f"own {name}": lambda norm=norm: own(norm) for name, norm in NORMS.items()},
    "modulated layer": lambda: modulated(nn.LayerNorm(8)),
    "modulated instance": lambda: nn.Sequential(
        filled(nn.Linear(4, 8)),
        filled(nn.Sequential(nn.Tanh(), nn.Linear(8, 4))),
        modulated(nn.LayerNorm(8), nn.Tanh()),
    ),
    "modulated measured batch": lambda: modulated(nn.BatchNorm1d(8).eval()),
}


def textbook(f: Functional, steps: int, adam: bool) -> Tensor:
    """The mean query loss after steps of the equation, one task after the other."""
    losses = []
    for task in range(3):
        (x, y), (qx, qy) = ([part[task] for part in parts] for parts in EPISODES)
        fast: Mapping[str, Tensor] = f.start()
        first, second = ({n: torch.zeros_like(w) for n, w in fast.items()} for _ in range(2))
        for step in range(1, steps + 1):
            found = torch.autograd.grad(cross_entropy(f(fast, x), y), list(fast.values()), create_graph=True)
            moves = dict(zip(fast, found, strict=True))
            if adam:
                first = {n: 0.9 * first[n] + 0.1 * g for n, g in moves.items()}
                second = {n: 0.999 * second[n] + 0.001 * g * g for n, g in moves.items()}
                moves = {n: first[n] / (1 - 0.9**step) / (second[n] / (1 - 0.999**step) + 1e-4).sqrt() for n in moves}
            fast = {n: w - 0.3 * moves[n] for n, w in fast.items()}
        losses.append(cross_entropy(f(fast, qx), qy))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETS)
def test_second_order_through_a_norm_with_a_gain(name: str, engine: Engine, adam: bool) -> None:
    net = NETS[name]()
    f, parameters = Functional(net, "*"), dict(net.named_parameters())
    rule = (
        Adam(0.3, eps=1e-2) if adam else SGD(0.3)
    )  # where gradients are near 0, a smaller eps blows up the last digits
    loss = lambda fast, batch: cross_entropy(f(fast, batch[0]), batch[1])  # noqa: E731
    outer = maml(loss, f.start(), EPISODES, rule, steps=2, order=2, engine=engine).mean()
    expected = textbook(f, 2, adam)
    assert float(outer.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    found, wanted = (torch.autograd.grad(value, list(parameters.values())) for value in (outer, expected))
    same(dict(zip(parameters, found, strict=True)), dict(zip(parameters, wanted, strict=True)))


def test_a_fast_gain_alone_is_exact() -> None:
    net = own(NORMS["layer"])
    f = Functional(net, "1.*")
    loss = lambda fast, batch: cross_entropy(f(fast, batch[0]), batch[1])  # noqa: E731
    grads = [
        torch.autograd.grad(maml(loss, f.start(), EPISODES, SGD(0.3), steps=3, order=2, engine=e).sum(), net[0].weight)
        for e in ENGINES
    ]
    assert torch.allclose(*(g for (g,) in grads), rtol=1e-9, atol=1e-12)


def test_a_norm_puts_out_the_dtype_of_its_input() -> None:
    x, w = draw(6, 8).bfloat16(), torch.ones(8)
    found = torch.vmap(
        torch.func.grad(lambda x: Functional(Own(NORMS["layer"]), "*")({"weight": w, "bias": w}, x).sum())
    )
    assert found(x).dtype == torch.bfloat16


ATEN = torch.ops.aten
NATIVE: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "native_layer_norm": lambda x, w, b: torch.native_layer_norm(x, (8,), w, b, 1e-5)[0],
    "native_batch_norm": lambda x, w, b: torch.native_batch_norm(x, w, b, None, None, True, 0.1, 1e-5)[0],
    "legit": lambda x, w, b: torch._native_batch_norm_legit(x, w, b, True, 0.1, 1e-5)[0],
    "impl_index": lambda x, w, b: torch._batch_norm_impl_index(x, w, b, None, None, True, 0.1, 1e-5, True)[0],
    "aten layer_norm": lambda x, w, b: ATEN.layer_norm(x, [8], w, b, 1e-5),
    "aten overload": lambda x, w, b: ATEN.layer_norm.default(x, [8], w, b, 1e-5),
    "aten batch_norm": lambda x, w, b: ATEN.batch_norm(x, w, b, None, None, True, 0.1, 1e-5, True),
    "aten native": lambda x, w, b: ATEN.native_batch_norm(x, w, b, None, None, True, 0.1, 1e-5)[0],
    "aten no_stats": lambda x, w, b: ATEN._native_batch_norm_legit.no_stats(x, w, b, True, 0.1, 1e-5)[0],
}


@pytest.mark.parametrize("name", NATIVE)
def test_a_fused_kernel_called_by_its_native_name_is_refused(name: str) -> None:
    f = Functional(own(NATIVE[name]), "*")
    loss = lambda fast, batch: cross_entropy(f(fast, batch[0]), batch[1])  # noqa: E731
    with refuses("exact at second order", "torch.ops.aten", "F.layer_norm"):
        maml(loss, f.start(), EPISODES, SGD(0.1), order=2)
    maml(loss, f.start(), EPISODES, SGD(0.1), order=2, engine="autograd")


def forgetful(kind: str, engine: Any) -> Callable[[], Any]:
    """A loop whose loss calls the network and not the function of the fast tensors."""
    net = filled(nn.Linear(4, 3))
    start = Functional(net, "*").start()
    loss = lambda fast, batch: cross_entropy(net(batch[0]), batch[1])  # noqa: E731
    support, one = EPISODES.support, tuple(part[0] for part in EPISODES.support)
    return {
        "maml": lambda: maml(loss, start, EPISODES, SGD(0.1), order=2, engine=engine),
        "first order": lambda: maml(loss, start, EPISODES, SGD(0.1), order=1, engine=engine),
        "adapt": lambda: adapt(loss, start, [one], SGD(0.1), order=1, engine=engine),
        "online": lambda: online(loss, start, one, one, SGD(0.1), order=2, engine=engine),
        "reptile": lambda: reptile(loss, start, support, SGD(0.1), steps=1),
        "cavia": lambda: cavia(loss, 2, EPISODES, SGD(0.1), order=2, like=net.weight, engine=engine),
        "a constant": lambda: maml(lambda fast, _: torch.zeros(()), start, EPISODES, SGD(0.1), order=1, engine=engine),
        "detached": lambda: adapt(lambda fast, _: fast["weight"].detach().sum(), start, [one], SGD(0.1), order=1),
    }[kind]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "kind", ["maml", "first order", "adapt", "online", "reptile", "cavia", "a constant", "detached"]
)
def test_a_loss_that_ignores_the_fast_tensors_is_refused(kind: str, engine: Engine) -> None:
    with refuses("uses the fast tensors that it is given", "none of", "call f(fast, x)"):
        forgetful(kind, engine)()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loss_may_ignore_some_of_them(engine: Engine) -> None:
    start = {"w": draw(4, 3).requires_grad_(), "idle": torch.ones(2, dtype=torch.float64, requires_grad=True)}
    loss = lambda fast, batch: cross_entropy(batch[0] @ fast["w"], batch[1])  # noqa: E731
    for rule in (SGD(0.1), SGD(0.1, momentum=0.5), Adam(0.1)):
        assert maml(loss, start, EPISODES, rule, steps=2, order=2, engine=engine).shape == (3,)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_names_the_other_engine(layer: Any) -> None:
    net = filled(layer(4, 3, batch_first=True))
    for dtype in (torch.float64, torch.float32):
        f, episodes = Functional(net.to(dtype), "*"), Episodes(*draw(2, 3, 6, 5, 4).to(dtype))
        loss = lambda fast, x: f(fast, x)[0].square().mean()  # noqa: B023, E731
        with refuses("side by side under torch.vmap", "got a recurrent layer", "engine='autograd'"):
            maml(loss, f.start(), episodes, SGD(0.1), order=2)
        with refuses("side by side under torch.vmap", "got a recurrent layer", "adapt()"):
            reptile(loss, f.start(), episodes.support, SGD(0.1), steps=1)
        assert maml(loss, f.start(), episodes, SGD(0.1), order=2, engine="autograd").shape == (3,)
        assert adapt(loss, f.start(), [episodes.support[0]], SGD(0.1), order=1, engine="func").keys() == set(f.fast)


def test_a_buffer_that_is_written_names_the_other_engine() -> None:
    running = torch.zeros(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    f = Functional(own(lambda x, w, b: F.batch_norm(x, *running, w, b, training=True)), "*")
    loss = lambda fast, batch: cross_entropy(f(fast, batch[0]), batch[1])  # noqa: E731
    with refuses("side by side under torch.vmap", "running_mean", "engine='autograd'"):
        maml(loss, f.start(), EPISODES, SGD(0.1), order=2)
    assert maml(loss, f.start(), EPISODES, SGD(0.1), order=2, engine="autograd").shape == (3,)


def test_other_errors_of_the_loss_are_its_own() -> None:
    start = {"w": draw(4, 3)}
    with pytest.raises(RuntimeError, match="size") as found:
        maml(lambda fast, batch: (fast["w"] @ batch[0]).sum(), start, EPISODES, SGD(0.1), order=1)
    assert not isinstance(found.value, RefusedError)


W = {"w": torch.ones(3, dtype=torch.float64)}
TREE = Episodes(draw(2, 3), draw(2, 3))
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an optimiser of torch": (
        {"optimiser": torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)},
        "neuromod.meta.SGD",
    ),
    "a class of optimisers": ({"optimiser": SGD}, "neuromod.meta.SGD"),
    "lists": ({"episodes": Episodes([[1.0, 2.0]], [[1.0, 2.0]])}, "hold tensors"),
    "numpy": ({"episodes": Episodes(np.ones((2, 3)), np.ones((2, 3)))}, "hold tensors"),
    "numbers": ({"episodes": Episodes(torch.tensor(1.0), torch.tensor(1.0))}, "hold tensors"),
    "nothing": ({"episodes": Episodes((), ())}, "hold tensors"),
    "one tensor": ({"episodes": draw(2, 3)}, "Episodes(support, query)"),
    "steps of half": ({"steps": 1.5}, "steps must be an integer"),
    "steps of True": ({"steps": True}, "steps must be an integer"),
    "fast in a list": ({"fast": [W["w"]]}, "come by name"),
    "fast integers": ({"fast": {"w": torch.ones(3, dtype=torch.long)}}, "tensors of floats"),
    "a loss for each sample": ({"loss": lambda fast, x: fast["w"] * x}, "a loss is a scalar"),
    "a loss that is a number": ({"loss": lambda fast, x: 1.0}, "a loss is a scalar"),
    "recompute of 1": ({"recompute": 1}, "recompute must be True or False"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("given", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(given: dict[str, Any], words: str, engine: Engine) -> None:
    told = {"loss": lambda fast, x: (fast["w"] * x).sum(), "fast": W, "episodes": TREE, "optimiser": SGD(0.1)} | given
    first = [told.pop(name) for name in ("loss", "fast", "episodes", "optimiser")]
    with refuses(words, "got"):
        maml(*first, order=1, engine=engine, **told)


@pytest.mark.parametrize(
    "made",
    [
        lambda: SGD(float("nan")),
        lambda: SGD("0.1"),  # type: ignore[arg-type]
        lambda: SGD({"w": None}),  # type: ignore[dict-item]
        lambda: SGD(0.1, momentum=1.0),
        lambda: Adam(0.1, betas=(0.9, 1.0)),
        lambda: Adam(0.1, betas=0.9),  # type: ignore[arg-type]
        lambda: Adam(0.1, eps=0.0),
    ],
)
def test_numbers_of_an_inner_optimiser(made: Callable[[], Any]) -> None:
    with refuses("got"):
        made()
