"""Adaptation without inner steps: a support set is read, and a modulation and a classifier come out (CNAPs and prototypes)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, flag, function, tensor
from neuromod.errors import RefusedError
from neuromod.meta.closed_form import class_means
from neuromod.meta.maml import Episodes, check_tasks


def prototypes(features: Tensor, labels: Tensor, query: Tensor, classes: int) -> Tensor:
    """Logits (Q, C) by the squared distance to the mean of each class, ``-|f - mu_c|^2`` (Snell et al. 2017, eq. 2).

    A class without samples is never answered.

    Args:
        features: of the support set (S, D).
        labels: int64 (S,).
        query: features (Q, D).
        classes: C.

    """
    # Distances from one point of all, or features far from zero would cancel in the squares.
    tensor(query, "query", 2)
    centre = tensor(features, "features", 2).mean(0)
    if query.shape[1] != len(centre) or query.dtype != centre.dtype:
        got = f"{query.shape[1]} of {query.dtype} for {len(centre)} of {centre.dtype}"
        raise RefusedError(f"a query has the features of its support; got {got}; correct it")
    head, query = class_means(features - centre, labels, classes), query - centre
    return 2 * (query @ head.weight.T + head.bias) - query.square().sum(1, keepdim=True)


def cnaps(encode: Callable[..., Any], episodes: Episodes, classes: int, *, adapted: bool = True) -> Tensor:
    """Logits (T, Q, C) of the query sets, the encoder adapted to each support set (Requeima et al. 2019).

    The head is `prototypes` in the place of the paper's generated one. RefusedError for a support set without an image of one of
    the classes.

    Args:
        encode: ``encode(images, condition=support images)`` gives features (B, D): a `Modulated` whose source reads a support set
            (``Hypernet("condition", embedding=(None, ...))``), for example FiLM over a frozen network.
        episodes: support and query sets of images and labels, T tasks along the first axis.
        classes: C, those of a task.
        adapted: False calls the encoder without a condition.

    """
    found, tasks = [], check_tasks(episodes)
    if any(not isinstance(part, tuple | list) or len(part) != 2 for part in episodes):
        raise RefusedError("support and query are (images, labels) each; got something else; pass both")
    (support, labels), (query, _) = episodes
    count(classes, "classes", least=1)
    flag(adapted, "adapted")
    function(encode, "encode")
    tensor(labels, "labels", 2, integers=True)
    _check_classes(labels, classes)
    for task in range(tasks):
        said = {"condition": support[task]} if adapted else {}
        features = encode(torch.cat([support[task], query[task]]), **said)
        known, asked = features[: len(support[task])], features[len(support[task]) :]
        found.append(prototypes(known, labels[task], asked, classes))
    return torch.stack(found)


def _check_classes(labels: Tensor, classes: int) -> None:
    for task, row in enumerate(labels):
        counts = torch.bincount(row, minlength=classes)
        if len(counts) > classes or not counts.all():
            got = (
                f"labels {row.min()}..{row.max()}" if len(counts) > classes else f"none of class {int(counts.argmin())}"
            )
            raise RefusedError(
                f"a support set shows each of its {classes} classes; got {got} in task {task}; draw it class by class"
            )
