"""Learning to learn one sample at a time: OML and ANML.

A trajectory is some images of one class, learned one by one; the outer loss asks for them and for images of other classes that
must not be forgotten. OML (Javed & White 2019) moves the head alone; ANML (Beaulieu et al. 2020) gates the features by a second
network that reads the same image, and moves what is declared fast. The papers differentiate through the steps (order 2), the
public code of ANML does not (order 1): say which.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.utils import _pytree as pytree

from neuromod.arguments import count, function, shown, tensor
from neuromod.errors import RefusedError
from neuromod.meta.dual import (
    LinearHead,
    check_head,
    check_labels,
    check_pairs,
    check_rate,
    correction,
    errors,
    outputs,
)
from neuromod.meta.inner import Engine, Loss, adapt, check_fast, check_finite, check_not_compiled, check_order
from neuromod.meta.optimisers import SGD, InnerOptimiser, Tensors
from neuromod.meta.shared_weight import SharedWeight


# reason: keywords alone behind the optimiser, each a choice of the algorithm
def online(
    loss: Loss,
    fast: Tensors,
    trajectory: Any,
    outer: Any,
    optimiser: InnerOptimiser,
    *,
    order: int,
    engine: Engine = "autograd",
    recompute: bool = False,
) -> Tensor:
    """The outer loss after one step on each sample of ``trajectory``; all ``outer`` samples in one batch.

    Args:
        loss: of fast tensors and a batch, a scalar.
        fast: tensors by name.
        trajectory: what the loss takes for a batch, a tree of tensors whose first axis counts samples: images and labels, and
            beside them whatever does not depend on the fast tensors, computed once for all (ANML's gates).
        outer: such a tree as well.
        optimiser: `SGD` or `Adam` of this package.
        order: 1: inner gradients count as constants (FOMAML); 2: exact.
        engine: as of `adapt`.
        recompute: as of `adapt`.

    """
    function(loss, "loss")
    leaves, structure = pytree.tree_flatten(trajectory)
    odd = [leaf for leaf in leaves if not isinstance(leaf, Tensor) or not leaf.ndim]
    if odd or len({len(leaf) for leaf in leaves}) != 1:
        said = shown(odd[0]) if odd else f"{[len(leaf) for leaf in leaves]} samples"
        raise RefusedError(f"a trajectory is tensors whose first axis counts the same samples; got {said}; stack them")
    batches = (
        pytree.tree_unflatten(list(parts), structure)
        for parts in zip(*(t.split(1) if len(t) else () for t in leaves), strict=True)
    )
    adapted = adapt(loss, fast, batches, optimiser, order=order, engine=engine, recompute=recompute)
    return loss(adapted, outer)


# reason: a trajectory is images, labels and a count; the rest is the head and its step
def online_head(
    encode: Callable[[Tensor], Tensor],
    head: LinearHead,
    images: Tensor,
    labels: Tensor,
    steps: int,
    rate: float | Tensor,
    *,
    order: int,
    criterion: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Tensor:
    """`online` where the head alone is fast and moved by SGD: the same number and gradients, without a loop of steps.

    Args:
        encode: images to features (N, D), in one batch; nothing in it may depend on other images of the batch (norms of a sample,
            or frozen statistics).
        head: before the first step.
        images: (K + M, ...): the first K are learned, and all of them are asked for.
        labels: int64 (K + M,).
        steps: K.
        rate: of SGD.
        order: 1: inner gradients count as constants (FOMAML); 2: exact.
        criterion: of logits (K + M, C) and labels, a scalar.

    """
    _check(steps, labels, head)
    check_rate(rate)
    function(criterion, "criterion")
    features = tensor(function(encode, "encode")(images), "what encode() returns", 2)
    check_pairs(features, labels, len(head.bias))
    learned = features[:steps]
    found = errors(learned, labels[:steps], head, rate, order=order)
    return criterion(outputs(features, learned, found, head, rate, order=order), labels)


# reason: a trajectory is images, labels and a count; the rest is what moves and its step
def online_dual(
    encode: Callable[[Tensors, Any], Tensor],
    fast: Tensors,
    head: LinearHead,
    images: Any,
    labels: Tensor,
    steps: int,
    rate: float | Tensor,
    *,
    order: int,
) -> Tensor:
    """`online` by SGD where a linear head is fast and other tensors too: the same number and gradients, the head never copied.

    The head's part of each step stays in dual form: its weights are as large as all the rest and would else be written, and
    kept for the backward pass, at every step. Refused: no other fast tensor (`online_head` is for that).

    Args:
        encode: ``encode(fast, images)`` gives features (N, D) of a tree of N samples.
        fast: tensors by name, beside the head.
        head: before the first step.
        images: a tree of K + M samples: the first K are learned, and all of them are asked for.
        labels: int64 (K + M,).
        steps: K.
        rate: of SGD.
        order: 1: inner gradients count as constants (FOMAML); 2: exact.

    """
    check_order(order)
    check_not_compiled(order)
    if isinstance(fast, Mapping) and not fast:
        raise RefusedError("online_dual moves tensors beside the head; got none; take online_head")
    _check(steps, labels, head)
    check_fast(fast)
    check_rate(rate)
    function(encode, "encode")
    for part in pytree.tree_leaves(images):
        if len(tensor(part, "images") if isinstance(part, Tensor) and part.ndim else ()) != len(labels):
            raise RefusedError(
                f"images are tensors of {len(labels)} samples, as labels are; got {shown(part)}; stack them"
            )
    moved, optimiser = (
        {name: w if w.requires_grad else w.detach().requires_grad_() for name, w in fast.items()},
        SGD(rate),
    )
    shared = SharedWeight(head.weight)
    wanted = one_hot(labels[:steps], len(head.bias)).to(head.bias)
    learned, found = head.weight.new_zeros(0, head.weight.shape[1]), wanted[:0]
    for t in range(steps):
        feature = encode(moved, pytree.tree_map(lambda part, t=t: part[t : t + 1], images))
        z = shared.rows(feature) + head.bias - correction(feature, learned, found, rate)
        check_finite(cross_entropy(z.detach(), labels[t : t + 1])[None], optimiser, t)
        error = torch.softmax(z, 1) - wanted[t : t + 1]
        # The gradient of the loss at the feature, by the head as it is at this step.
        pulled = shared.columns(error) - rate * (error @ found.T) @ learned
        told: dict[str, Any] = {"create_graph": order == 2, "materialize_grads": True}
        pulls = torch.autograd.grad(feature, list(moved.values()), pulled, **told)
        if order == 1:
            feature, error, pulls = feature.detach(), error.detach(), tuple(g.detach() for g in pulls)
        moved, _ = optimiser.step(moved, dict(zip(moved, pulls, strict=True)), None)
        learned, found = torch.cat([learned, feature]), torch.cat([found, error])
    return cross_entropy(outputs(encode(moved, images), learned, found, head, rate), labels)


def reset_row(weight: Tensor, row: int | Tensor, fresh: Tensor) -> Tensor:
    """The head's weight (C, D) with one row drawn anew; no gradient goes to the row that was there.

    Done before each trajectory, so that a head can't know its class beforehand (Beaulieu et al. 2020; "zapping" in Frati et
    al. 2024).

    Args:
        weight: (C, D).
        row: which one.
        fresh: the new row (D,).

    """
    classes, size = tensor(weight, "weight", 2).shape
    if tuple(tensor(fresh, "fresh", 1).shape) != (size,):
        raise RefusedError(f"a fresh row is as long as those of the head, {size}; got {len(fresh)}; correct it")
    if not (isinstance(row, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(row)):
        row = count(row, "row", most=classes - 1)
    index = torch.as_tensor(row, device=weight.device).reshape(1)
    return weight.index_copy(0, index, fresh.detach().to(weight.dtype)[None])


def _check(steps: int, labels: Tensor, head: LinearHead) -> None:
    check_head(head)
    tensor(labels, "labels", 1, integers=True)
    if count(steps, "steps, the images that are learned,") > len(labels):
        said = "steps counts the images that are learned, the first of the batch"
        raise RefusedError(f"{said}; got {steps} of {len(labels)}; take fewer")
    check_labels(labels, len(head.bias))
