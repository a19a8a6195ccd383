"""Learning to learn one sample at a time: OML and ANML.

A trajectory is some images of one class, learned one by one; the outer loss asks for them and for images of other classes that
must not be forgotten. OML (Javed & White 2019) moves the head alone; ANML (Beaulieu et al. 2020) gates the features by a second
network that reads the same image, and moves what is declared fast. The papers differentiate through the steps (order 2), the
public code of ANML does not (order 1): say which.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils import _pytree as pytree

from neuromod.errors import RefusedError
from neuromod.meta.dual import Head, errors, outputs
from neuromod.meta.inner import Engine, Loss, adapt
from neuromod.meta.rules import Rule, Tensors


def online(
    loss: Loss,
    fast: Tensors,
    trajectory: Any,
    outer: Any,
    rule: Rule,
    *,
    order: int,
    engine: Engine = "autograd",
    recompute: bool = False,
) -> Tensor:
    """The outer loss after one step on each sample of ``trajectory``; all ``outer`` samples in one batch.

    Both are what the loss takes for a batch, trees of tensors whose first axis counts samples: images and labels, and beside them
    whatever does not depend on the fast tensors, computed once for all (ANML's gates).
    """
    leaves, structure = pytree.tree_flatten(trajectory)
    batches = (
        pytree.tree_unflatten(list(parts), structure)
        for parts in zip(*(t.split(1) if len(t) else () for t in leaves), strict=True)
    )
    adapted = adapt(loss, fast, batches, rule, order=order, engine=engine, recompute=recompute)
    return loss(adapted, outer)


def online_head(
    encode: Callable[[Tensor], Tensor],
    head: Head,
    images: Tensor,
    labels: Tensor,
    steps: int,
    rate: float,
    *,
    order: int,
    criterion: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Tensor:
    """`online` where the head alone is fast and moved by SGD: the same number and the same gradients, without a loop of steps.

    ``images`` (K + M, ...) and ``labels``: the first ``steps`` = K are the trajectory, and all of them are asked for. They are
    encoded in one batch; nothing in the encoder may depend on other images of it (norms of a sample, or frozen statistics).
    """
    if not 0 <= steps <= len(images):
        raise RefusedError(
            f"steps counts the images that are learned, the first of the batch; got {steps} of {len(images)}"
        )
    features = encode(images)
    learned = features[:steps]
    found = errors(learned, labels[:steps], head, rate, order=order)
    return criterion(outputs(features, learned, found, head, rate, order=order), labels)


def reset_row(weight: Tensor, row: int | Tensor, fresh: Tensor) -> Tensor:
    """The head's weight (C, D) with one row drawn anew (D,); no gradient goes to the row that was there.

    Done before each trajectory, so that a head can't know its class beforehand (Beaulieu et al. 2020; "zapping" in Frati et
    al. 2024).
    """
    index = torch.as_tensor(row, device=weight.device).reshape(1)
    return weight.index_copy(0, index, fresh.detach()[None])
