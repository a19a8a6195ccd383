"""The slow reference where the answer is known: quadratic bowls, and CAVIA and ANIL on a small network."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.meta import slow as S
from tests.meta.smooth import F64, HEAD, central, episodes, exact, network, parameters, randn, same, value_of

pytestmark = pytest.mark.check

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
