"""Slow float64 reference for meta-gradients, written from the equations.

A network is `forward(tensors, x)`, with `tensors` a dict of named tensors.
A loss is a function (outputs, y) -> scalar. A batch is a pair (x, y).
"""

import torch
from torch.nn.functional import cross_entropy


def gradient(value, tensors, create_graph=False):
    """Dict of d value / d tensor, zeros where `value` does not use the tensor."""
    grads = torch.autograd.grad(
        value, list(tensors.values()), create_graph=create_graph, retain_graph=True, allow_unused=True
    )
    return {
        name: torch.zeros_like(tensor) if g is None else g
        for (name, tensor), g in zip(tensors.items(), grads, strict=True)
    }


def leaves(tensors):
    """Copies without history that ask for a gradient."""
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}


def detached(tensors):
    return {name: tensor.detach() for name, tensor in tensors.items()}


# 1. The inner loop


def inner(
    forward, fast, slow, batches, loss, lr, order, optimizer="sgd", momentum=0.9, lrs=None, betas=(0.9, 0.999), eps=1e-8
):
    """The fast tensors after one step per batch; `slow` stays as it is.

    g = d loss / d fast at {**slow, **fast}; order 2 keeps its graph, order 1 detaches it.
    sgd:      w <- w - lr g
    momentum: v <- momentum v + g,  w <- w - lr v
    adam:     w <- w - lr mhat / sqrt(vhat + eps^2)
    `lrs` (dict of tensors, one per fast name) takes the place of `lr`.
    """
    assert order in (1, 2)
    assert optimizer in ("sgd", "momentum", "adam")
    w = {name: t if t.requires_grad else t.detach().clone().requires_grad_() for name, t in fast.items()}
    m = {name: torch.zeros_like(t) for name, t in w.items()}
    v = {name: torch.zeros_like(t) for name, t in w.items()}
    for step, (x, y) in enumerate(batches, start=1):
        g = gradient(loss(forward({**slow, **w}, x), y), w, create_graph=order == 2)
        if order == 1:
            g = detached(g)
        new = {}
        for name in w:
            rate = lr if lrs is None else lrs[name]
            if optimizer == "sgd":
                direction = g[name]
            elif optimizer == "momentum":
                v[name] = momentum * v[name] + g[name]
                direction = v[name]
            else:
                m[name] = betas[0] * m[name] + (1 - betas[0]) * g[name]
                v[name] = betas[1] * v[name] + (1 - betas[1]) * g[name] ** 2
                mhat = m[name] / (1 - betas[0] ** step)
                vhat = v[name] / (1 - betas[1] ** step)
                direction = mhat / torch.sqrt(vhat + eps**2)
            new[name] = w[name] - rate * direction
        w = new
    return w


# 2. The outer gradient


def meta_gradient(forward, fast, slow, episodes, loss, lr, order, lrs=None, **options):
    """(mean query loss, gradients wrt all fast and slow tensors[, gradients wrt lrs]).

    `episodes`: list of (support batches, query batch). The third item comes only with `lrs`.
    `options`: as for `inner` (optimizer, momentum, betas, eps).
    """
    fast, slow = leaves(fast), leaves(slow)
    lrs = None if lrs is None else leaves(lrs)
    total = 0.0
    for support, (x, y) in episodes:
        adapted = inner(forward, fast, slow, support, loss, lr, order, lrs=lrs, **options)
        total = total + loss(forward({**slow, **adapted}, x), y)
    mean = total / len(episodes)
    grads = gradient(mean, {**slow, **fast})
    if lrs is None:
        return mean.detach(), grads
    return mean.detach(), grads, gradient(mean, lrs)


# 3. Named methods


def maml(forward, tensors, episodes, loss, lr, **options):
    """Every tensor is fast; second order."""
    return meta_gradient(forward, tensors, {}, episodes, loss, lr, 2, **options)


def fomaml(forward, tensors, episodes, loss, lr, **options):
    """Every tensor is fast; first order."""
    return meta_gradient(forward, tensors, {}, episodes, loss, lr, 1, **options)


def anil(forward, tensors, head, episodes, loss, lr, order=2, **options):
    """Only the names in `head` are fast."""
    fast = {name: tensors[name] for name in tensors if name in head}
    slow = {name: tensors[name] for name in tensors if name not in head}
    return meta_gradient(forward, fast, slow, episodes, loss, lr, order, **options)


def cavia(forward, slow, context, size, episodes, loss, lr, order=2, **options):
    """Fast = one vector named `context`, zeros at each task; gradients wrt `slow` (and lrs)."""
    zeros = torch.zeros(size, dtype=next(iter(slow.values())).dtype)
    value, grads, *rest = meta_gradient(forward, {context: zeros}, slow, episodes, loss, lr, order, **options)
    return (value, {name: grads[name] for name in slow}, *rest)


def reptile(forward, tensors, tasks, loss, lr, **options):
    """Mean over tasks (each a list of batches) of w_K - w_0."""
    total = {name: torch.zeros_like(t) for name, t in tensors.items()}
    for batches in tasks:
        end = inner(forward, leaves(tensors), {}, batches, loss, lr, 1, **options)
        for name in total:
            total[name] = total[name] + (end[name] - tensors[name]).detach()
    return {name: t / len(tasks) for name, t in total.items()}


# 4. OML and ANML


def gated_forward(encoder, gate, head):
    """tensors, x -> (features * sigmoid(gate)) W^T + b, with head = (name of W, name of b)."""

    def forward(tensors, x):
        features = encoder(tensors, x)
        if gate is not None:
            features = features * torch.sigmoid(gate(tensors, x))
        return features @ tensors[head[0]].T + tensors[head[1]]

    return forward


def replace_row(weight, row, fresh):
    """`weight` with one row replaced by the constant `fresh`."""
    rows = [fresh.detach() if i == row else weight[i] for i in range(len(weight))]
    return torch.stack(rows)


def anml(
    encoder, gate, tensors, head, fast, trajectory, remember, row, fresh, lr, order=2, loss=cross_entropy, **options
):
    """(outer loss, gradients wrt `tensors` as they were before the row was replaced).

    Replace the row of W, take one step of batch size 1 on the names in `fast` per image of
    the trajectory, then take the loss on trajectory and remember images as one batch.
    """
    forward = gated_forward(encoder, gate, head)
    start = leaves(tensors)
    replaced = {**start, head[0]: replace_row(start[head[0]], row, fresh)}
    fast_set = {name: replaced[name] for name in tensors if name in fast}
    slow_set = {name: replaced[name] for name in tensors if name not in fast}
    xs, ys = trajectory
    batches = [(xs[i : i + 1], ys[i : i + 1]) for i in range(len(xs))]
    adapted = inner(forward, fast_set, slow_set, batches, loss, lr, order, **options)
    x, y = torch.cat([xs, remember[0]]), torch.cat([ys, remember[1]])
    value = loss(forward({**slow_set, **adapted}, x), y)
    return value.detach(), gradient(value, start)


def oml(encoder, tensors, head, trajectory, remember, row, fresh, lr, order=2, gate=None, **options):
    """The head alone is fast; by default no gate."""
    return anml(encoder, gate, tensors, head, head, trajectory, remember, row, fresh, lr, order, **options)


# 5. FiLM from a support set


def mlp(tensors, prefix, z, activation):
    """Two layers named prefix + .w1 .b1 .w2 .b2."""
    hidden = activation(tensors[prefix + ".w1"] @ z + tensors[prefix + ".b1"])
    return tensors[prefix + ".w2"] @ hidden + tensors[prefix + ".b2"]


def cnaps_film(support_features, tensors, layers, activation=torch.relu):
    """Dict layer -> (1 + r_g MLP_g(z), r_b MLP_b(z)), z the mean of the features (N, D).

    Names: layer + .gamma or .beta, then .w1 .b1 .w2 .b2 and .r (scalar or per channel).
    """
    z = support_features.mean(0)
    film = {}
    for layer in layers:
        g, b = layer + ".gamma", layer + ".beta"
        film[layer] = (
            1 + tensors[g + ".r"] * mlp(tensors, g, z, activation),
            tensors[b + ".r"] * mlp(tensors, b, z, activation),
        )
    return film


def apply_film(h, gamma, beta):
    """gamma h + beta over the channels (axis 1) of h (N, C) or (N, C, H, W)."""
    shape = (1, -1) + (1,) * (h.dim() - 2)
    return gamma.reshape(shape) * h + beta.reshape(shape)
