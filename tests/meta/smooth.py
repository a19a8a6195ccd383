"""A smooth network in float64, its episodes, and central differences: what the slow reference is held against."""

import torch
from torch.nn.functional import cross_entropy

from tests.meta import slow as S

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
