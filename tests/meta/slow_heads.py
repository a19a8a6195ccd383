"""Slow float64 reference for linear heads: single steps in sequence, and closed forms; written from the equations."""

import torch
from torch.nn.functional import cross_entropy, one_hot

from tests.meta.slow import gradient, leaves

# 1. Linear softmax head, one sample after the other


def head_gradient(z, y, weight, bias):
    """Gradient of the cross-entropy of one sample wrt (weight, bias)."""
    w = leaves({"weight": weight, "bias": bias})
    value = cross_entropy((w["weight"] @ z + w["bias"])[None], y[None])
    return list(gradient(value, w).values())


def head_steps(features, labels, weight, bias, steps, all_steps, move):
    """Step t = 1, 2, ... on sample (t-1) mod N: w <- w - move(t, k, g), k = 0 weight, 1 bias."""
    w = (weight.detach().clone(), bias.detach().clone())
    history = [w]
    for t in range(1, (len(features) if steps is None else steps) + 1):
        i = (t - 1) % len(features)
        g = head_gradient(features[i].detach(), labels[i], *w)
        w = tuple(w[k] - move(t, k, g[k]) for k in range(2))
        history.append(w)
    return history[1:] if all_steps else w


def head_sgd(features, labels, weight, bias, lr, steps=None, all_steps=False):
    """Final (weight, bias), or the list of them after each step; default one pass."""
    return head_steps(features, labels, weight, bias, steps, all_steps, lambda t, k, g: lr * g)


def head_adam(features, labels, weight, bias, lr, steps=None, all_steps=False, betas=(0.9, 0.999), eps=1e-8):
    """As head_sgd, with w <- w - lr mhat / (sqrt(vhat) + eps)."""
    m, v = [0.0, 0.0], [0.0, 0.0]

    def move(t, k, g):
        m[k] = betas[0] * m[k] + (1 - betas[0]) * g
        v[k] = betas[1] * v[k] + (1 - betas[1]) * g**2
        mhat, vhat = m[k] / (1 - betas[0] ** t), v[k] / (1 - betas[1] ** t)
        return lr * mhat / (torch.sqrt(vhat) + eps)

    return head_steps(features, labels, weight, bias, steps, all_steps, move)


# 2. Closed forms; each gives (weight (C, D), bias (C))


def ridge_head(features, labels, classes, penalty):
    """argmin sum_n |W z_n + b - onehot(y_n)|^2 + penalty |W|^2; b is not penalised."""
    targets = one_hot(labels, classes).to(features.dtype)
    z_mean, t_mean = features.mean(0), targets.mean(0)
    z, t = features - z_mean, targets - t_mean
    eye = torch.eye(features.shape[1], dtype=features.dtype)
    weight = torch.linalg.solve(z.T @ z + penalty * eye, z.T @ t).T
    return weight, t_mean - weight @ z_mean


def class_means_head(features, labels, classes):
    """Logits mu_c z - |mu_c|^2 / 2; a class without samples has weight 0 and bias -inf."""
    weight = features.new_zeros(classes, features.shape[1])
    bias = features.new_full((classes,), -torch.inf)
    for c in range(classes):
        if (labels == c).any():
            weight[c] = features[labels == c].mean(0)
            bias[c] = -(weight[c] @ weight[c]) / 2
    return weight, bias


def lda_update(state, z, y):
    """Deep SLDA, state = (means, counts, Sigma, t), all zero at first.

    Sigma comes first, with the old mean of class y (zero at its first sample).
    """
    means, counts, sigma, t = state
    y = int(y)
    d = z - means[y]
    delta = t * torch.outer(d, d) / (t + 1)
    sigma = (t * sigma + delta) / (t + 1)
    means, counts = means.clone(), list(counts)
    means[y] = (counts[y] * means[y] + z) / (counts[y] + 1)
    counts[y] += 1
    return means, counts, sigma, t + 1


def lda_head(state, eps):
    """Logits mu_c^T A z - mu_c^T A mu_c / 2, A = ((1-eps) Sigma + eps I)^-1; unseen: 0, -inf."""
    means, counts, sigma, _ = state
    a = torch.linalg.inv((1 - eps) * sigma + eps * torch.eye(len(sigma), dtype=sigma.dtype))
    weight = means @ a
    bias = torch.stack([-(weight[c] @ means[c]) / 2 for c in range(len(means))])
    bias[torch.tensor(counts) == 0] = -torch.inf
    return weight, bias


def streaming_lda(features, labels, classes, eps=1e-4):
    """lda_head after all samples in order."""
    dim = features.shape[1]
    state = (features.new_zeros(classes, dim), [0] * classes, features.new_zeros(dim, dim), 0)
    for z, y in zip(features, labels, strict=True):
        state = lda_update(state, z, y)
    return lda_head(state, eps)
