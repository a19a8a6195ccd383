"""The equations of reservoirs as they are printed, one unit, one step and one number at a time."""

import math

import torch
from torch import Tensor


def states(w: Tensor, w_in: Tensor, b: Tensor, u: Tensor, leak: float, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """``x[t+1] = (1-a) x[t] + a tanh(g (W x[t] + W_in u[t+1] + b) + c)``: inputs (T, D) to states (T, N)."""
    found = []
    for step in u:
        new = x.clone()
        for i in range(len(x)):
            total = sum(float(w[i, j] * x[j]) for j in range(len(x)))
            total += sum(float(w_in[i, d] * step[d]) for d in range(len(step))) + float(b[i])
            new[i] = (1 - leak) * float(x[i]) + leak * math.tanh(float(gain[i]) * total + float(bias[i]))
        x = new
        found.append(x)
    return torch.stack(found)


def readout(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """``Y X^T (X X^T + r I)^-1`` of states (F, T) and targets (O, T): sums over steps, and an inverse."""
    f, o, steps = len(x), len(y), x.shape[1]
    xx, yx = torch.zeros(f, f, dtype=torch.float64), torch.zeros(o, f, dtype=torch.float64)
    for t in range(steps):
        for i in range(f):
            for j in range(f):
                xx[i, j] += x[i, t] * x[j, t]
            for k in range(o):
                yx[k, i] += y[k, t] * x[i, t]
    for i in range(f):
        xx[i, i] += ridge
    return yx @ torch.linalg.inv(xx)


def nmse(found: list[float], wanted: list[float]) -> float:
    """Mean squared error over variance."""
    mean = sum(wanted) / len(wanted)
    variance = sum((d - mean) ** 2 for d in wanted) / len(wanted)
    return sum((y - d) ** 2 for y, d in zip(found, wanted, strict=True)) / len(wanted) / variance


def conceptor(x: Tensor, aperture: float) -> Tensor:
    """``R (R + a^-2 I)^-1`` of states (T, N), R summed step by step."""
    r = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for step in x:
        r += torch.outer(step, step) / len(x)
    return r @ torch.linalg.inv(r + torch.eye(len(r), dtype=torch.float64) / aperture**2)


def memory(said: list[float], wanted: list[float]) -> float:
    """Squared correlation."""
    ms, mw = sum(said) / len(said), sum(wanted) / len(wanted)
    cov = sum((s - ms) * (w - mw) for s, w in zip(said, wanted, strict=True))
    return cov**2 / (sum((s - ms) ** 2 for s in said) * sum((w - mw) ** 2 for w in wanted))
