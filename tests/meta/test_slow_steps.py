"""The slow reference of the inner loop against central differences, and against the optimisers of torch."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.meta import slow as S
from tests.meta.smooth import HEAD, batch, central, episodes, exact, network, parameters, randn, same, value_of

pytestmark = pytest.mark.check

OPTIONS = [
    {"optimizer": "sgd"},
    {"optimizer": "momentum", "momentum": 0.8},
    {"optimizer": "adam", "eps": 0.05},
    {"optimizer": "adam"},
]
RATES = {"sgd": 0.4, "momentum": 0.2, "adam": 0.03}
FAST = [("w1", "b1", "head.w", "head.b"), HEAD, ("w1", "head.b")]


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("options", OPTIONS)
def test_second_order_by_central_differences(options, fast):
    p, lr, eps = parameters(), RATES[options["optimizer"]], episodes()
    # Adam with a tiny eps bends sharply where a gradient is small: smaller step, same check.
    h = 2e-5 if "eps" in options or options["optimizer"] != "adam" else 2e-6
    f = {n: p[n] for n in p if n in fast}
    s = {n: p[n] for n in p if n not in fast}
    value, grads = S.meta_gradient(network, f, s, eps, cross_entropy, lr, 2, **options)
    fd_value = value_of(network, fast, eps, lr, **options)
    assert float(value) == pytest.approx(fd_value(p), rel=1e-14)
    same(grads, {n: central(fd_value, p, h)[n] for n in grads})


@pytest.mark.parametrize("options", OPTIONS[:3])
def test_learned_rates_by_central_differences(options):
    p, eps, names = parameters(), episodes(), ("w1", "b1", "head.w")
    rates = {n: RATES[options["optimizer"]] * (1 + 0.3 * torch.tanh(randn(*p[n].shape, seed=7))) for n in names}
    f, s = {n: p[n] for n in names}, {"head.b": p["head.b"]}
    _, grads, lr_grads = S.meta_gradient(network, f, s, eps, cross_entropy, None, 2, lrs=rates, **options)
    keyed = {"lr " + n: rates[n] for n in names}
    value = value_of(network, names, eps, None, lrs_names=tuple(keyed), **options)
    fd = central(value, {**p, **keyed})
    same(grads, {n: fd[n] for n in grads})
    same(lr_grads, {n: fd["lr " + n] for n in names})


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("options", OPTIONS)
def test_first_order_is_the_gradient_with_frozen_steps(options, fast):
    """Order 1: the displacement w_K - w_0 of each task is a constant."""
    p, lr, eps = parameters(), RATES[options["optimizer"]], episodes()
    f = {n: p[n] for n in p if n in fast}
    s = {n: p[n] for n in p if n not in fast}
    moves = []
    for support, _ in eps:
        end = S.inner(network, f, s, support, cross_entropy, lr, 1, **options)
        moves.append({n: end[n].detach() - f[n] for n in f})

    def value(t):
        return sum(
            float(cross_entropy(network({n: t[n] + move.get(n, 0) for n in t}, x), y))
            for move, (_, (x, y)) in zip(moves, eps, strict=True)
        ) / len(eps)

    got, grads = S.meta_gradient(network, f, s, eps, cross_entropy, lr, 1, **options)
    assert float(got) == pytest.approx(value(p), rel=1e-14)
    same(grads, central(value, {**s, **f}))


def test_first_order_learned_rates():
    """Order 1: w_K = w_0 - sum_k lrs * g_k with the g_k constants."""
    p, eps = parameters(), episodes(tasks=1)
    rates = {n: 0.3 + 0.1 * torch.tanh(randn(*p[n].shape, seed=8)) for n in p}
    support, (x, y) = eps[0]
    w, total = p, {n: torch.zeros_like(p[n]) for n in p}
    for b in support:
        end = S.inner(network, w, {}, [b], cross_entropy, None, 1, lrs=rates)
        total = {n: total[n] + (w[n] - end[n].detach()) / rates[n] for n in p}
        w = S.detached(end)

    def value(r):
        return cross_entropy(network({n: p[n] - r[n] * total[n] for n in p}, x), y)

    _, _, got = S.meta_gradient(network, p, {}, eps, cross_entropy, None, 1, lrs=rates)
    same(got, central(value, rates))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_inner_values_are_those_of_torch_optim(optimizer):
    p, lr = parameters(), RATES[optimizer]
    batches = [batch(k) for k in range(5)]
    live = S.leaves(p)
    opt = {
        "sgd": lambda q: torch.optim.SGD(q, lr=lr),
        "momentum": lambda q: torch.optim.SGD(q, lr=lr, momentum=0.9),
        "adam": lambda q: torch.optim.Adam(q, lr=lr, eps=1e-12),
    }[optimizer](live.values())
    for x, y in batches:
        opt.zero_grad()
        cross_entropy(network(live, x), y).backward()
        opt.step()
    for order in (1, 2):
        end = S.inner(network, p, {}, batches, cross_entropy, lr, order, optimizer, eps=1e-12)
        for n in p:
            exact(end[n], live[n].detach(), 1e-9)
        same(
            end,
            S.inner(
                network,
                p,
                {},
                batches,
                cross_entropy,
                7.0,
                order,
                optimizer,
                eps=1e-12,
                lrs={n: torch.full_like(p[n], lr) for n in p},
            ),
            1e-14,
        )


def test_unused_tensors_and_no_steps():
    p = parameters()
    x, y = batch(3)
    _, grads = S.meta_gradient(
        network, {**p, "idle fast": randn(2)}, {"idle slow": randn(3)}, [([], (x, y))], cross_entropy, 0.1, 2
    )
    assert not grads.pop("idle fast").any()
    assert not grads.pop("idle slow").any()
    same(grads, central(lambda t: cross_entropy(network(t, x), y), p))
