"""MAML and its relatives against the slow reference: outer losses, and gradients of every fast and slow tensor, to 1e-9."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neuromod import Affine, Gate, Hypernet, Modulated, Modulator, RefusedError, Table, Target, Threshold
from neuromod.meta import SGD, Adam, Episodes, Functional, adapt, backward, cavia, maml, reptile
from neuromod.meta.inner import Engine
from tests.meta import slow
from tests.meta.nets import conv, draw, filled, forward_of, gradients, mlp, same, tensors_of

TASKS, RATE = 3, 0.3
RULES = {
    "sgd": (SGD(RATE), {}),
    "momentum": (SGD(RATE, momentum=0.8), {"optimizer": "momentum", "momentum": 0.8}),
    "adam": (Adam(RATE), {"optimizer": "adam"}),
}
ENGINES = [{"engine": "func"}, {"engine": "autograd"}, {"engine": "autograd", "recompute": True}]


def data(shape: tuple[int, ...], classes: int) -> Episodes:
    def part(seed: int, count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(classes, (TASKS, count), generator=torch.Generator().manual_seed(seed))
        return draw(TASKS, count, *shape, seed=seed), labels

    return Episodes(part(1, 5), part(2, 7))


def listed(episodes: Episodes, steps: int) -> list[Any]:
    (x, y), (qx, qy) = episodes
    return [([(x[t], y[t])] * steps, (qx[t], qy[t])) for t in range(TASKS)]


def loss_of(net: Functional) -> Any:
    return lambda fast, batch: cross_entropy(net(fast, batch[0]), batch[1])


NETS = {"mlp": (mlp, (4,), 3), "conv": (conv, (1, 6, 6), 4)}


@pytest.mark.parametrize("fast", ["*", ["0.*", "*.bias"]])
@pytest.mark.parametrize("options", ENGINES)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", NETS)
def test_the_outer_gradient_is_that_of_the_equation(
    kind: str, name: str, order: int, options: Mapping[str, Any], fast: Any
) -> None:
    build, shape, classes = NETS[kind]
    net, episodes, (rule, told) = build(), data(shape, classes), RULES[name]
    declared = Functional(net, fast)
    losses = maml(loss_of(declared), declared.start(), episodes, rule, steps=3, order=order, **options)
    assert losses.shape == (TASKS,)
    backward(losses.mean())
    tensors = tensors_of(net)
    moved = {n: tensors[n] for n in declared.fast}
    still = {n: tensors[n] for n in declared.slow}
    value, expected = slow.meta_gradient(
        forward_of(net), moved, still, listed(episodes, 3), cross_entropy, RATE, order, **told
    )
    assert float(losses.detach().mean()) == pytest.approx(float(value), rel=1e-12)
    same(gradients(net), {n: expected[n] for n in tensors})


@pytest.mark.parametrize("options", ENGINES[:2])
@pytest.mark.parametrize("name", RULES)
def test_rates_are_learned(name: str, options: Mapping[str, Any]) -> None:
    net, episodes = mlp(), data((4,), 3)
    declared = Functional(net, "*")
    rates = {
        n: (0.2 + 0.1 * draw(*p.shape, seed=i).abs()).requires_grad_()
        for i, (n, p) in enumerate(net.named_parameters())
    }
    rule = {"sgd": SGD(rates), "momentum": SGD(rates, momentum=0.8), "adam": Adam(rates)}[name]
    maml(loss_of(declared), declared.start(), episodes, rule, steps=2, order=2, **options).mean().backward()
    told = RULES[name][1]
    _, expected, of_rates = slow.meta_gradient(
        forward_of(net), tensors_of(net), {}, listed(episodes, 2), cross_entropy, 0.0, 2, lrs=rates, **told
    )
    same(gradients(net), expected)
    same({n: r.grad for n, r in rates.items()}, of_rates)


def test_first_and_second_order_are_one_without_steps_and_part_with_them() -> None:
    episodes = data((4,), 3)
    found = {}
    for steps, rate in ((0, 0.3), (3, 0.3), (3, 1e-9)):
        for order in (1, 2):
            net = mlp()
            declared = Functional(net, "*")
            maml(loss_of(declared), declared.start(), episodes, SGD(rate), steps=steps, order=order).mean().backward()
            found[steps, rate, order] = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert torch.equal(found[0, 0.3, 1], found[0, 0.3, 2])
    assert not torch.allclose(found[3, 0.3, 1], found[3, 0.3, 2], rtol=0.05)
    assert torch.allclose(found[3, 1e-9, 1], found[3, 1e-9, 2], rtol=1e-6)


def test_a_context_starts_at_zero_and_moves_alone() -> None:
    net, episodes = filled(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))), data((4,), 3)

    def forward(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return forward_of(net)(
            {n: t for n, t in tensors.items() if n != "context"}, with_context(tensors["context"], x)
        )

    def with_context(context: Tensor, x: Tensor) -> Tensor:
        return torch.cat([x, context.expand(len(x), -1)], 1)

    losses = cavia(
        lambda fast, batch: cross_entropy(net(with_context(fast["context"], batch[0])), batch[1]),
        *(2, episodes, SGD(1.0)),
        steps=2,
        order=2,
        like=net[0].weight,
    )
    losses.mean().backward()
    _, expected = slow.cavia(forward, tensors_of(net), "context", 2, listed(episodes, 2), cross_entropy, 1.0)
    same(gradients(net), expected)


def test_reptile_moves_towards_the_mean_of_the_ends() -> None:
    net, episodes = mlp(), data((4,), 3)
    declared = Functional(net, "*")
    found = reptile(loss_of(declared), declared.start(), episodes.support, SGD(RATE), steps=3)
    batches = [support for support, _ in listed(episodes, 3)]
    same(found, slow.reptile(forward_of(net), tensors_of(net), batches, cross_entropy, RATE))


@pytest.mark.parametrize(
    "modulator",
    [
        lambda target: Modulator(Affine(), Table(1), target.norms(), seed=0),
        lambda target: Modulator(Gate(), Hypernet("input", hidden=4), target.norms(), seed=0),
        lambda target: Modulator(Threshold(), Table(1), target.weights("0"), seed=0),
    ],
    ids=["affine", "gate of the input", "masks"],
)
def test_any_kind_over_a_frozen_target_is_meta_learned(modulator: Any) -> None:
    """What moves in the inner loop is whatever the source has; the target stays, and both engines agree."""
    # A norm below another: the gradient that a fused kernel gets wrong under vmap is the one through it.
    net = filled(
        nn.Sequential(
            *(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh()),
            *(nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh()),
            nn.Linear(6, 3),
        )
    )
    episodes, found = data((4,), 3), []
    target = Target(net, draw(5, 4))
    for options in ENGINES[:2]:
        model = Modulated(target, modulator(target).double())
        filled(model, 0.3)
        said = {"task": 0} if "task" in model.reads else {}
        declared = Functional(model, "*")
        maml(
            lambda fast, batch: cross_entropy(declared(fast, batch[0], **said), batch[1]),  # noqa: B023
            *(declared.start(), episodes, SGD(RATE)),
            steps=2,
            order=2,
            **options,
        ).mean().backward()
        found.append({n: p.grad for n, p in model.named_parameters()})
        assert any(bool(g.abs().max() > 0) for g in found[-1].values() if g is not None)
    same(found[0], {n: torch.zeros(()) if g is None else g for n, g in found[1].items()})
    target.verify()


def test_mistakes_are_told_in_one_line() -> None:
    net, episodes = mlp(), data((4,), 3)
    declared = Functional(net, ["4.*"])
    loss, start = loss_of(declared), declared.start()
    with pytest.raises(RefusedError, match=r"'5\.\*'; nearest"):
        Functional(net, "5.*")
    with pytest.raises(RefusedError, match=r"'4\.wieght', which is none"):
        declared({"4.wieght": net[4].weight, "4.bias": net[4].bias}, draw(2, 4))
    with pytest.raises(RefusedError, match=r"all but '4\.bias'"):
        declared({"4.weight": net[4].weight}, draw(2, 4))
    with pytest.raises(RefusedError, match="order must be 1 or 2; got 3"):
        maml(loss, start, episodes, SGD(0.1), order=3)
    with pytest.raises(RefusedError, match="engine must be"):
        maml(loss, start, episodes, SGD(0.1), order=1, engine="jax")  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="recompute=True"):
        maml(loss, start, episodes, SGD(0.1), order=2, recompute=True)
    with pytest.raises(RefusedError, match="steps must be an integer of 0 or more; got -1"):
        maml(loss, start, episodes, SGD(0.1), steps=-1, order=2)
    with pytest.raises(RefusedError, match=r"'4\.bias' has none"):
        maml(loss, start, episodes, SGD({"4.weight": torch.ones(())}), order=2)
    wild = Functional(mlp(), "*")
    engines: tuple[Engine, ...] = ("autograd", "func")
    for engine in engines:
        with pytest.raises(RefusedError, match=r"finite; got (nan|inf) at step \d+ with rate 1e\+308"):
            maml(loss_of(wild), wild.start(), episodes, SGD(1e308), steps=5, order=1, engine=engine)
    with pytest.raises(RefusedError, match="at step 2 with rate"):
        adapt(loss_of(wild), wild.start(), [first(episodes, step == 2) for step in range(4)], SGD(0.1), order=1)
    x, y = episodes.support
    spoilt = Episodes((x.index_fill(0, torch.tensor(1), torch.nan), y), episodes.query)
    with pytest.raises(RefusedError, match=r"got nan at step 0 with rate 0\.1"):
        maml(loss_of(wild), wild.start(), spoilt, SGD(0.1), steps=3, order=2)
    with pytest.raises(RefusedError, match="finite"):
        reptile(loss_of(wild), wild.start(), episodes.support, SGD(1e308), steps=5)


def first(episodes: Episodes, spoilt: bool) -> tuple[Tensor, Tensor]:
    """The support set of the first task, or one whose inputs are no numbers."""
    x, y = episodes.support
    return x[0] * (torch.nan if spoilt else 1.0), y[0]


def test_what_is_plastic_is_what_is_fast_when_deployed() -> None:
    net = mlp()
    declared = Functional(net, "*", plastic="4.*")
    assert declared.deployed().fast == declared.plastic == ("4.weight", "4.bias")
    assert Functional(net, "4.*").deployed().fast == ("4.weight", "4.bias")
    x, moved = draw(2, 4), {n: p + 1 for n, p in declared.deployed().start().items()}
    assert torch.equal(declared.deployed()(moved, x), declared(declared.start() | moved, x))


def test_outputs_can_be_asked_for_in_the_place_of_losses() -> None:
    declared, episodes = Functional(mlp(), "*"), data((4,), 3)
    found = maml(
        loss_of(declared), declared.start(), episodes, SGD(0.1), order=1, judge=lambda fast, q: declared(fast, q[0])
    )
    expected = adapt(loss_of(declared), declared.start(), [tuple(p[1] for p in episodes.support)], SGD(0.1), order=1)
    assert torch.allclose(found[1], declared(expected, episodes.query[0][1]), rtol=1e-12)


def test_an_operation_without_a_second_derivative_is_named() -> None:
    q = draw(1, 2, 4, 8).float()
    weight = torch.eye(8, requires_grad=True)

    def loss(fast: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            return nn.functional.scaled_dot_product_attention(batch @ fast["w"], batch, batch).square().mean()

    outer = maml(loss, {"w": weight}, Episodes(q[None], q[None]), SGD(0.1), order=2, engine="autograd")
    with pytest.raises(RefusedError, match=r"order=2 needs operations with a second derivative; got: .*flash"):
        backward(outer.mean())
    first = maml(loss, {"w": weight}, Episodes(q[None], q[None]), SGD(0.1), order=1, engine="autograd")
    backward(first.mean())


def test_another_error_of_the_backward_pass_is_not_taken_for_it() -> None:
    net, episodes = mlp(), data((4,), 3)
    declared = Functional(net, "*")
    outer = maml(loss_of(declared), declared.start(), episodes, SGD(0.1), order=2).mean()
    backward(outer)
    with pytest.raises(RuntimeError, match="second time"):
        backward(outer)
