"""The slow reference of heads and FiLM against the equations written out in numpy."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.meta import slow as S
from tests.meta import slow_heads
from tests.meta.smooth import F64, batch, central, encoder, exact, parameters, randn, same

pytestmark = pytest.mark.check

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
    steps = slow_heads.head_sgd(Z, LABELS, HW, HB, 0.5, steps=9, all_steps=True)
    assert len(steps) == 9
    for t in range(9):
        gw, gb = numpy_head_gradient(Z[t % 6].numpy(), int(LABELS[t % 6]), w, b)
        w, b = w - 0.5 * gw, b - 0.5 * gb
        exact(steps[t][0], w)
        exact(steps[t][1], b)
    for got, want in zip(slow_heads.head_sgd(Z, LABELS, HW, HB, 0.5), steps[5], strict=True):
        assert torch.equal(got, want)
    assert torch.equal(slow_heads.head_sgd(Z, LABELS, HW, HB, 0.5, steps=0)[0], HW)


def test_head_adam():
    w, b = HW.clone().requires_grad_(), HB.clone().requires_grad_()
    opt = torch.optim.Adam([w, b], lr=0.05, eps=1e-3)
    steps = slow_heads.head_adam(Z, LABELS, HW, HB, 0.05, steps=9, all_steps=True, eps=1e-3)
    for t in range(9):
        opt.zero_grad()
        gw, gb = numpy_head_gradient(Z[t % 6].numpy(), int(LABELS[t % 6]), w.detach().numpy(), b.detach().numpy())
        w.grad, b.grad = torch.from_numpy(gw), torch.from_numpy(gb)
        opt.step()
        exact(steps[t][0], w.detach(), 1e-11)
        exact(steps[t][1], b.detach(), 1e-11)
    assert torch.equal(slow_heads.head_adam(Z, LABELS, HW, HB, 0.05, eps=1e-3)[0], steps[5][0])


def test_ridge_head():
    targets = torch.eye(3, dtype=F64)[LABELS]
    w, b = slow_heads.ridge_head(Z, LABELS, 3, 0.7)
    live = S.leaves({"w": w, "b": b})
    value = ((Z @ live["w"].T + live["b"] - targets) ** 2).sum() + 0.7 * (live["w"] ** 2).sum()
    for g in S.gradient(value, live).values():
        assert float(g.abs().max()) < 1e-12  # stationary, and the problem is convex
    w2, b2 = slow_heads.ridge_head(Z + 5, LABELS, 3, 0.7)  # the intercept takes up a shift
    exact(w2, w, 1e-10)
    exact((Z + 5) @ w2.T + b2, Z @ w.T + b, 1e-10)
    w3, b3 = slow_heads.ridge_head(Z, LABELS, 3, 1e12)
    exact(w3, 0 * w3, 1e-10)
    exact(b3, targets.mean(0), 1e-10)


def test_class_means_head():
    w, b = slow_heads.class_means_head(Z, LABELS, 4)
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
        state = slow_heads.lda_update(state, z, 0)
        d = Z[:n] - Z[:n].mean(0)
        exact(state[2], d.T @ d / n)
        exact(state[0][0], Z[:n].mean(0))


def test_streaming_lda_by_hand():
    """Scalars 2, 4 of class 0, 3 of class 1, 5 of class 0: old means 0, 2, 0, 3."""
    state, sigmas = zero_state(3, 1), []
    for z, y in ((2, 0), (4, 0), (3, 1), (5, 0)):
        state = slow_heads.lda_update(state, torch.tensor([float(z)], dtype=F64), torch.tensor(y))
        sigmas.append(state[2])
    # 0; (0 + 4/2)/2 = 1; (2*1 + 2*9/3)/3 = 8/3; (3*8/3 + 3*4/4)/4 = 11/4
    exact(torch.cat(sigmas).flatten(), [0, 1, 8 / 3, 11 / 4])
    exact(state[0].flatten(), [11 / 3, 3, 0])
    assert state[1] == [3, 1, 0]
    assert state[3] == 4
    w, b = slow_heads.lda_head(state, 0.5)  # A = 1 / (11/8 + 1/2) = 8/15
    exact(w.flatten(), [8 / 15 * 11 / 3, 8 / 5, 0])
    exact(b, [-4 / 15 * 121 / 9, -12 / 5, -torch.inf])


def test_streaming_lda_logits_are_gaussian():
    eps, state = 0.2, zero_state(3, 4)
    for z, y in zip(Z, LABELS, strict=True):
        state = slow_heads.lda_update(state, z, y)
    means = torch.stack([Z[c == LABELS].mean(0) for c in range(3)])
    exact(state[0], means)
    covariance = (1 - eps) * state[2] + eps * torch.eye(4, dtype=F64)
    x = randn(5, 4, seed=25)
    log_p = torch.stack([torch.distributions.MultivariateNormal(m, covariance).log_prob(x) for m in means], 1)
    w, b = slow_heads.streaming_lda(Z, LABELS, 3, eps)
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
