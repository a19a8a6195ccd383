"""Central differences on smooth networks and closed forms on toys, all in float64."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.meta import slow as S

pytestmark = pytest.mark.check  # central differences take half a minute
F64 = torch.float64
HEAD = ("head.w", "head.b")


def randn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def central(value, tensors, h=2e-5):
    """d value / d every entry: (f(h) - f(-h)) / 2h."""
    out = {}
    for name, tensor in tensors.items():
        out[name] = torch.zeros_like(tensor)
        for i in range(tensor.numel()):
            f = []
            for sign in (1, -1):
                moved = tensor.detach().clone()
                moved.view(-1)[i] += sign * h
                f.append(float(value({**tensors, name: moved})))
            out[name].view(-1)[i] = (f[0] - f[1]) / (2 * h)
    return out


def same(got, want, rtol=1e-7):
    """Dicts equal to `rtol` of the largest entry of each tensor (of 1e-3 at least)."""
    assert got.keys() == want.keys()
    for name in want:
        scale = max(float(want[name].detach().abs().max()), 1e-3)
        error = float((got[name] - want[name]).detach().abs().max())
        assert error <= rtol * scale, (name, error, scale)


def exact(got, want, rtol=1e-12):
    torch.testing.assert_close(got.detach(), torch.as_tensor(want, dtype=F64), rtol=rtol, atol=rtol)


# A smooth network: 3 -> 4 tanh -> 3 classes


def encoder(t, x):
    return torch.tanh(x @ t["w1"].T + t["b1"])


def gate(t, x):
    return x @ t["gate.w"].T + t["gate.b"]


def network(t, x):
    return encoder(t, x) @ t["head.w"].T + t["head.b"]


def parameters():
    return {
        "w1": randn(4, 3, seed=1, scale=0.7),
        "b1": randn(4, seed=2, scale=0.3),
        "head.w": randn(3, 4, seed=3),
        "head.b": randn(3, seed=4),
    }


def batch(seed, n=4):
    g = torch.Generator().manual_seed(100 + seed)
    return randn(n, 3, seed=seed), torch.randint(0, 3, (n,), generator=g)


def episodes(tasks=2, steps=3):
    return [([batch(10 * k + s + 20) for s in range(steps)], batch(10 * k + 29, 5)) for k in range(tasks)]


def value_of(forward, fast_names, eps_list, lr, lrs_names=(), **options):
    """tensors -> mean query loss after the inner loop, with no second-order graph."""

    def value(t):
        fast = {n: t[n] for n in fast_names}
        rest = {n: t[n] for n in t if n not in fast_names and n not in lrs_names}
        lrs = {n: t["lr " + n] for n in fast_names} if lrs_names else None
        total = 0.0
        for support, (x, y) in eps_list:
            end = S.inner(forward, fast, rest, support, cross_entropy, lr, 1, lrs=lrs, **options)
            total += float(cross_entropy(forward({**rest, **end}, x), y).detach())
        return total / len(eps_list)

    return value


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


# Quadratic toys: loss(w, y) = (w - y)^T A (w - y) / 2, so g = A (w - y)

A = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=F64)
EYE = torch.eye(2, dtype=F64)
W0, YS, YQ = randn(2, seed=5), randn(2, seed=6), randn(2, seed=7)
K, LR = 4, 0.3
QUAD = [([(None, YS)] * K, (None, YQ))]
M = torch.linalg.matrix_power(EYE - LR * A, K)
WK = YS + M @ (W0 - YS)


def bowl(w, y):
    return (w - y) @ A @ (w - y) / 2


def point(t, x):
    return t["w"]


def test_quadratic_maml_fomaml_reptile():
    value, grads = S.maml(point, {"w": W0}, QUAD, bowl, LR)
    exact(value, bowl(WK, YQ))
    exact(grads["w"], M @ A @ (WK - YQ))
    value, grads = S.fomaml(point, {"w": W0}, QUAD, bowl, LR)
    exact(value, bowl(WK, YQ))
    exact(grads["w"], A @ (WK - YQ))
    other = [(None, YQ)] * K
    want = (M - EYE) @ (2 * W0 - YS - YQ) / 2
    exact(S.reptile(point, {"w": W0}, [QUAD[0][0], other], bowl, LR)["w"], want)


def test_quadratic_momentum():
    m, v, w, jacobian_w, jacobian_v = 0.7, 0 * W0, W0, EYE, 0 * EYE
    for _ in range(K):
        v, jacobian_v = m * v + A @ (w - YS), m * jacobian_v + A @ jacobian_w
        w, jacobian_w = w - LR * v, jacobian_w - LR * jacobian_v
    _, grads = S.maml(point, {"w": W0}, QUAD, bowl, LR, optimizer="momentum", momentum=m)
    exact(grads["w"], jacobian_w.T @ A @ (w - YQ))


def test_quadratic_adam_first_step_and_zero_gradient():
    """One step: w_1 = w - lr g / sqrt(g^2 + eps^2), g = w - y per coordinate."""

    def half(w, y):
        return ((w - y) ** 2).sum() / 2

    for eps, y in ((0.1, YS), (1e-3, W0), (1e-8, W0)):
        g = W0 - y
        w1 = W0 - LR * g / torch.sqrt(g**2 + eps**2)
        slope = 1 - LR * eps**2 / (g**2 + eps**2) ** 1.5
        _, grads = S.maml(point, {"w": W0}, [([(None, y)], (None, YQ))], half, LR, optimizer="adam", eps=eps)
        assert torch.isfinite(grads["w"]).all()
        exact(grads["w"], slope * (w1 - YQ), 1e-9)


def test_quadratic_meta_sgd():
    """One step: w_1 = w - r g; dL/dr = -g q, dL/dw = (EYE - A diag r) q, q = A (w_1 - y_q)."""
    r = torch.tensor([0.2, 0.6], dtype=F64)
    g = A @ (W0 - YS)
    q = A @ (W0 - r * g - YQ)
    for order, dw in ((1, q), (2, q - A @ (r * q))):
        _, grads, lr_grads = S.meta_gradient(
            point, {"w": W0}, {}, [([(None, YS)], (None, YQ))], bowl, None, order, lrs={"w": r}
        )
        exact(lr_grads["w"], -g * q)
        exact(grads["w"], dw)


def test_scalar_anil():
    """f = a b x, fast b, one step on (x, y): b' = b - lr a x (a b x - y)."""
    a, b, x, y, u, t = 0.7, -0.4, 1.3, 0.9, 0.8, -0.2
    tensors = {"a": torch.tensor(a, dtype=F64), "b": torch.tensor(b, dtype=F64)}
    eps = [([(x, y)], (u, t))]
    b1 = b - LR * a * x * (a * b * x - y)
    e = a * b1 * u - t
    db1_da, db1_db = -LR * x * (2 * a * b * x - y), 1 - LR * a * a * x * x
    for order in (1, 2):
        _, g = S.anil(lambda p, z: p["a"] * p["b"] * z, tensors, {"b"}, eps, lambda o, z: (o - z) ** 2 / 2, LR, order)
        full = order == 2
        exact(g["a"], e * u * (b1 + (a * db1_da if full else 0)))
        exact(g["b"], e * u * a * (db1_db if full else 1))


def test_quadratic_cavia():
    """outputs = theta + c from c = 0: theta + c_K = y_s + M (theta - y_s); order 1: c_K constant."""

    def forward(t, x):
        return t["theta"] + t["c"]

    for order, jacobian in ((1, EYE), (2, M)):
        value, grads = S.cavia(forward, {"theta": W0}, "c", 2, QUAD + QUAD, bowl, LR, order)
        assert list(grads) == ["theta"]
        exact(value, bowl(WK, YQ))
        exact(grads["theta"], jacobian @ A @ (WK - YQ))


def context_network(t, x):
    return network(t, torch.cat([x[:, :2], t["c"].expand(len(x), 1)], 1))


def test_cavia_and_anil_by_central_differences():
    p, eps = parameters(), episodes()
    _, grads = S.cavia(context_network, p, "c", 1, eps, cross_entropy, 0.5, optimizer="momentum")
    value = value_of(context_network, ("c",), eps, 0.5, optimizer="momentum")
    zero = {"c": torch.zeros(1, dtype=F64)}
    same(grads, central(lambda t: value({**t, **zero}), p))
    _, grads = S.anil(network, p, HEAD, eps, cross_entropy, 0.5)
    same(grads, central(value_of(network, HEAD, eps, 0.5), p))


# OML and ANML


def online_parameters():
    return {**parameters(), "gate.w": randn(4, 3, seed=11), "gate.b": randn(4, seed=12)}


def plain_online(t, gated):
    """The forward pass of OML or ANML written out."""

    def forward(x):
        z = torch.tanh(x @ t["w1"].T + t["b1"])
        if gated:
            z = z / (1 + torch.exp(-(x @ t["gate.w"].T + t["gate.b"])))
        return z @ t["head.w"].T + t["head.b"]

    return forward


def plain_inner(t, fast, xs, ys, lr, gated):
    """Row 1 of the head set, then K SGD steps of batch size 1, values only."""
    t = {n: v.detach().clone() for n, v in t.items()}
    t["head.w"][1] = FRESH
    for x, y in zip(xs, ys, strict=True):
        for n in fast:
            t[n].requires_grad_()
        cross_entropy(plain_online(t, gated)(x[None]), y[None]).backward()
        t = {n: (v - lr * v.grad if n in fast else v).detach() for n, v in t.items()}
    return t


FRESH = randn(4, seed=13)
TRAJECTORY = (randn(3, 3, seed=14), torch.tensor([1, 1, 1]))
REMEMBER = (randn(5, 3, seed=15), torch.tensor([0, 2, 1, 2, 0]))
ONLINE = [(False, HEAD), (True, HEAD), (True, ("head.w",)), (True, ("b1", "head.w", "gate.b")), (True, ("w1", "b1"))]


@pytest.mark.parametrize(("gated", "fast"), ONLINE)
@pytest.mark.parametrize("order", [1, 2])
def test_online_by_central_differences(gated, fast, order):
    p, lr = online_parameters(), 0.4
    x, y = torch.cat([TRAJECTORY[0], REMEMBER[0]]), torch.cat([TRAJECTORY[1], REMEMBER[1]])
    args = (TRAJECTORY, REMEMBER, 1, FRESH, lr, order)
    if gated:
        got, grads = S.anml(encoder, gate, p, HEAD, fast, *args)
    else:
        got, grads = S.oml(encoder, p, HEAD, *args)
    frozen = plain_inner(p, fast, *TRAJECTORY, lr, gated)

    def value(t):
        if order == 2:
            end = plain_inner(t, fast, *TRAJECTORY, lr, gated)
        else:
            start = {**t, "head.w": t["head.w"].clone()}
            start["head.w"][1] = FRESH
            before = {**p, "head.w": p["head.w"].clone()}
            before["head.w"][1] = FRESH
            end = {n: start[n] + (frozen[n] - before[n]) for n in t}
        return cross_entropy(plain_online(end, gated)(x), y)

    assert float(got) == pytest.approx(float(value(p)), rel=1e-13)
    assert not grads["head.w"][1].any()
    assert grads["head.w"][0].any()
    assert bool(grads["gate.w"].any()) == gated
    same(grads, central(value, p))


def test_online_inner_loop_is_head_sgd():
    p = online_parameters()
    z = encoder(p, TRAJECTORY[0])
    start = S.replace_row(p["head.w"], 1, FRESH)
    w, b = S.head_sgd(z, TRAJECTORY[1], start, p["head.b"], 0.4)
    got, _ = S.oml(encoder, p, HEAD, TRAJECTORY, REMEMBER, 1, FRESH, 0.4)
    x, y = torch.cat([TRAJECTORY[0], REMEMBER[0]]), torch.cat([TRAJECTORY[1], REMEMBER[1]])
    exact(got, cross_entropy(encoder(p, x) @ w.T + b, y))


# Heads

Z, LABELS = randn(6, 4, seed=21), torch.tensor([0, 2, 1, 2, 0, 2])
HW, HB = randn(3, 4, seed=22), randn(3, seed=23)


def numpy_head_gradient(z, y, w, b):
    s = w @ z + b
    p = np.exp(s - s.max())
    p = p / p.sum()
    p[y] -= 1
    return np.outer(p, z), p


def test_head_sgd():
    w, b = HW.numpy(), HB.numpy()
    steps = S.head_sgd(Z, LABELS, HW, HB, 0.5, steps=9, all_steps=True)
    assert len(steps) == 9
    for t in range(9):
        gw, gb = numpy_head_gradient(Z[t % 6].numpy(), int(LABELS[t % 6]), w, b)
        w, b = w - 0.5 * gw, b - 0.5 * gb
        exact(steps[t][0], w)
        exact(steps[t][1], b)
    for got, want in zip(S.head_sgd(Z, LABELS, HW, HB, 0.5), steps[5], strict=True):
        assert torch.equal(got, want)
    assert torch.equal(S.head_sgd(Z, LABELS, HW, HB, 0.5, steps=0)[0], HW)


def test_head_adam():
    w, b = HW.clone().requires_grad_(), HB.clone().requires_grad_()
    opt = torch.optim.Adam([w, b], lr=0.05, eps=1e-3)
    steps = S.head_adam(Z, LABELS, HW, HB, 0.05, steps=9, all_steps=True, eps=1e-3)
    for t in range(9):
        opt.zero_grad()
        gw, gb = numpy_head_gradient(Z[t % 6].numpy(), int(LABELS[t % 6]), w.detach().numpy(), b.detach().numpy())
        w.grad, b.grad = torch.from_numpy(gw), torch.from_numpy(gb)
        opt.step()
        exact(steps[t][0], w.detach(), 1e-11)
        exact(steps[t][1], b.detach(), 1e-11)
    assert torch.equal(S.head_adam(Z, LABELS, HW, HB, 0.05, eps=1e-3)[0], steps[5][0])


def test_ridge_head():
    targets = torch.eye(3, dtype=F64)[LABELS]
    w, b = S.ridge_head(Z, LABELS, 3, 0.7)
    live = S.leaves({"w": w, "b": b})
    value = ((Z @ live["w"].T + live["b"] - targets) ** 2).sum() + 0.7 * (live["w"] ** 2).sum()
    for g in S.gradient(value, live).values():
        assert float(g.abs().max()) < 1e-12  # stationary, and the problem is convex
    w2, b2 = S.ridge_head(Z + 5, LABELS, 3, 0.7)  # the intercept takes up a shift
    exact(w2, w, 1e-10)
    exact((Z + 5) @ w2.T + b2, Z @ w.T + b, 1e-10)
    w3, b3 = S.ridge_head(Z, LABELS, 3, 1e12)
    exact(w3, 0 * w3, 1e-10)
    exact(b3, targets.mean(0), 1e-10)


def test_class_means_head():
    w, b = S.class_means_head(Z, LABELS, 4)
    x = randn(20, 4, seed=24)
    means = torch.stack([Z[c == LABELS].mean(0) for c in range(3)])
    distances = ((x[:, None] - means[None]) ** 2).sum(2)
    logits = x @ w.T + b
    exact(logits[:, :3], (x**2).sum(1, keepdim=True) / 2 - distances / 2)
    assert torch.equal(logits.argmax(1), distances.argmin(1))
    assert w[3].eq(0).all()
    assert b[3] == -torch.inf


def zero_state(classes, dim):
    return torch.zeros(classes, dim, dtype=F64), [0] * classes, torch.zeros(dim, dim, dtype=F64), 0


def test_streaming_lda_one_class_is_the_running_covariance():
    state = zero_state(1, 4)
    for n, z in enumerate(Z, start=1):
        state = S.lda_update(state, z, 0)
        d = Z[:n] - Z[:n].mean(0)
        exact(state[2], d.T @ d / n)
        exact(state[0][0], Z[:n].mean(0))


def test_streaming_lda_by_hand():
    """Scalars 2, 4 of class 0, 3 of class 1, 5 of class 0: old means 0, 2, 0, 3."""
    state, sigmas = zero_state(3, 1), []
    for z, y in ((2, 0), (4, 0), (3, 1), (5, 0)):
        state = S.lda_update(state, torch.tensor([float(z)], dtype=F64), torch.tensor(y))
        sigmas.append(state[2])
    # 0; (0 + 4/2)/2 = 1; (2*1 + 2*9/3)/3 = 8/3; (3*8/3 + 3*4/4)/4 = 11/4
    exact(torch.cat(sigmas).flatten(), [0, 1, 8 / 3, 11 / 4])
    exact(state[0].flatten(), [11 / 3, 3, 0])
    assert state[1] == [3, 1, 0]
    assert state[3] == 4
    w, b = S.lda_head(state, 0.5)  # A = 1 / (11/8 + 1/2) = 8/15
    exact(w.flatten(), [8 / 15 * 11 / 3, 8 / 5, 0])
    exact(b, [-4 / 15 * 121 / 9, -12 / 5, -torch.inf])


def test_streaming_lda_logits_are_gaussian():
    eps, state = 0.2, zero_state(3, 4)
    for z, y in zip(Z, LABELS, strict=True):
        state = S.lda_update(state, z, y)
    means = torch.stack([Z[c == LABELS].mean(0) for c in range(3)])
    exact(state[0], means)
    covariance = (1 - eps) * state[2] + eps * torch.eye(4, dtype=F64)
    x = randn(5, 4, seed=25)
    log_p = torch.stack([torch.distributions.MultivariateNormal(m, covariance).log_prob(x) for m in means], 1)
    w, b = S.streaming_lda(Z, LABELS, 3, eps)
    logits = x @ w.T + b
    exact(logits - logits[:, :1], log_p - log_p[:, :1], 1e-10)


# FiLM


def film_parameters(r):
    t = {}
    for k, (layer, channels) in enumerate((("one", 4), ("two", 2))):
        for j, kind in enumerate(("gamma", "beta")):
            seed, name = 40 + 10 * k + 5 * j, f"{layer}.{kind}"
            t[name + ".w1"], t[name + ".b1"] = randn(3, 4, seed=seed), randn(3, seed=seed + 1)
            t[name + ".w2"] = randn(channels, 3, seed=seed + 2)
            t[name + ".b2"] = randn(channels, seed=seed + 3)
            t[name + ".r"] = r * (1 + torch.rand(channels, generator=torch.Generator().manual_seed(seed), dtype=F64))
    return t


def test_film_values_and_identity():
    t = film_parameters(0.5)
    film = S.cnaps_film(Z, t, ["one", "two"])
    n = {k: v.numpy() for k, v in t.items()}
    z = Z.numpy().mean(0)
    for layer in ("one", "two"):
        for kind, base, got in zip(("gamma", "beta"), (1, 0), film[layer], strict=True):
            q = f"{layer}.{kind}"
            hidden = np.maximum(n[q + ".w1"] @ z + n[q + ".b1"], 0)
            exact(got, base + n[q + ".r"] * (n[q + ".w2"] @ hidden + n[q + ".b2"]))
    for got, want in zip(S.cnaps_film(Z.flip(0), t, ["one"])["one"], film["one"], strict=True):
        exact(got, want)  # the order of the support set is nothing
    h = randn(2, 4, 3, 3, seed=60)
    gamma, beta = film["one"]
    exact(S.apply_film(h, gamma, beta)[1, 2], gamma[2] * h[1, 2] + beta[2])
    off = S.cnaps_film(Z, film_parameters(0.0), ["one", "two"])
    assert torch.equal(S.apply_film(h, *off["one"]), h)
    assert torch.equal(S.apply_film(h[:, :2, 0, 0], *off["two"]), h[:, :2, 0, 0])


def test_film_by_central_differences():
    """Encoder, generators and r together, through a network that film changes."""
    (xs, _), (x, y) = batch(70), batch(71)
    t = {**parameters(), **film_parameters(0.5)}

    def value(t):
        film = S.cnaps_film(encoder(t, xs), t, ["one"], torch.tanh)
        h = torch.tanh(S.apply_film(encoder(t, x), *film["one"]))
        return cross_entropy(h @ t["head.w"].T + t["head.b"], y)

    live = S.leaves(t)
    same(S.gradient(value(live), live), central(value, t))
