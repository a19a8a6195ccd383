"""The slow reference of OML and ANML against central differences."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.meta import slow as S
from tests.meta import slow_heads
from tests.meta.smooth import HEAD, central, encoder, exact, gate, parameters, randn, same

pytestmark = pytest.mark.check


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
    w, b = slow_heads.head_sgd(z, TRAJECTORY[1], start, p["head.b"], 0.4)
    got, _ = S.oml(encoder, p, HEAD, TRAJECTORY, REMEMBER, 1, FRESH, 0.4)
    x, y = torch.cat([TRAJECTORY[0], REMEMBER[0]]), torch.cat([TRAJECTORY[1], REMEMBER[1]])
    exact(got, cross_entropy(encoder(p, x) @ w.T + b, y))
