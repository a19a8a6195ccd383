"""Learning to adapt from a few examples: MAML, FOMAML, ANIL, CAVIA and Reptile as compositions of the inner loop.

| | fast set | order |
|---|---|---|
| MAML (Finn et al. 2017) | every parameter | 2 |
| FOMAML (same, section 5.2) | every parameter | 1 |
| ANIL (Raghu et al. 2020) | the head | 2 |
| CAVIA (Zintgraf et al. 2019) | a context, zero at the start of each task | 2 |

The fast set is what the loss takes (`neuromod.meta.Functional` declares it); all else is slow.
"""

from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from neuromod.arguments import count, function, one_of, shown
from neuromod.errors import RefusedError
from neuromod.meta.inner import Engine, Loss, adapt, check_fast, check_finite, side_by_side
from neuromod.meta.norms import unfused
from neuromod.meta.optimisers import InnerOptimiser, Tensors


class Episodes(NamedTuple):
    """Tasks side by side: trees of tensors whose first axis counts the T tasks. ``support`` adapts, ``query`` judges."""

    support: Any
    query: Any


# reason: keywords alone behind the optimiser, each a choice of the algorithm
def maml(
    loss: Loss,
    fast: Tensors,
    episodes: Episodes,
    optimiser: InnerOptimiser,
    *,
    steps: int = 1,
    order: int,
    engine: Engine = "func",
    recompute: bool = False,
    judge: Loss | None = None,
) -> Tensor:
    """Query losses (T,) after some steps on the support set of each task, every task from the same ``fast`` tensors.

    Their mean is the outer loss. RefusedError where an inner loss is not finite.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> episodes = Episodes(torch.eye(2)[:, None], torch.eye(2)[:, None])
    >>> loss = lambda fast, x: (x @ fast["w"] - 1).square().mean()
    >>> from neuromod.meta import SGD
    >>> maml(loss, {"w": w}, episodes, SGD(0.25), order=2).tolist()
    [0.25, 0.25]

    Args:
        loss: of fast tensors and a batch, a scalar.
        fast: tensors by name.
        episodes: support and query sets, T tasks along the first axis.
        optimiser: `SGD` or `Adam` of this package.
        steps: on each support set, 0 or more.
        order: 1: inner gradients count as constants (FOMAML); 2: exact.
        engine: "func" runs all tasks in one call, "autograd" one after the other.
        recompute: as of `adapt`.
        judge: ``judge(fast, query)``, whose outputs (T, ...) come in the place of the losses: logits, for accuracies.

    """
    steps, _ = count(steps, "steps"), function(loss, "loss")
    if judge is not None:
        function(judge, "judge")
    one_of(engine, "engine", ("autograd", "func"))

    def task(episode: Episodes) -> tuple[Tensor, Tensor]:
        batches, history = repeat(episode.support, steps), list[Tensor]()
        adapted = adapt(
            loss, fast, batches, optimiser, order=order, engine=engine, recompute=recompute, history=history
        )
        with unfused():
            judged = (judge or loss)(adapted, episode.query)
        return judged, torch.stack(history) if history else judged.new_zeros(0)

    check_tasks(episodes)
    episodes = Episodes(*episodes)
    if engine == "autograd":
        return torch.stack([task(episode)[0] for episode in _apart(episodes)])
    with side_by_side("pass engine='autograd'"):
        found, history = torch.vmap(task, randomness="different")(episodes)
    check_finite(history, optimiser)
    return found


# reason: those of maml
def cavia(
    loss: Loss,
    size: int,
    episodes: Episodes,
    optimiser: InnerOptimiser,
    *,
    steps: int = 1,
    order: int,
    like: Tensor,
    engine: Engine = "func",
    judge: Loss | None = None,
) -> Tensor:
    """Query losses (T,) where each task moves a context from zero (Zintgraf et al. 2019, eq. 2-3).

    No weight is copied for a task, so all tasks share every product with the slow weights.

    Args:
        loss: ``loss({"context": c}, batch)``, a scalar.
        size: numbers of the context c.
        episodes: support and query sets, T tasks along the first axis.
        optimiser: `SGD` or `Adam` of this package.
        steps: on each support set, 0 or more.
        order: 1: inner gradients count as constants (FOMAML); 2: exact.
        like: a tensor of the context's dtype and on its device.
        engine: as of `maml`.
        judge: as of `maml`.

    """
    if not isinstance(like, Tensor) or not like.is_floating_point():
        raise RefusedError(f"like= is a tensor of floats, as the context will be; got {shown(like)}; pass a weight")
    start = {"context": like.new_zeros(count(size, "size", least=1, most=10**9))}
    return maml(loss, start, episodes, optimiser, steps=steps, order=order, engine=engine, judge=judge)


def reptile(loss: Loss, fast: Tensors, supports: Any, optimiser: InnerOptimiser, *, steps: int) -> dict[str, Tensor]:
    """The mean over tasks of ``w_K - w_0`` (Nichol et al. 2018), by name: the direction in which the outer step moves ``fast``.

    Args:
        loss: of fast tensors and a batch, a scalar.
        fast: tensors by name.
        supports: support sets, tasks along the first axis.
        optimiser: `SGD` or `Adam` of this package.
        steps: K, on each support set.

    """
    steps, _ = count(steps, "steps"), function(loss, "loss")
    check_fast(fast)
    count_tasks(supports)
    start = {name: w.detach() for name, w in fast.items()}

    def task(support: Any) -> tuple[dict[str, Tensor], Tensor]:
        history: list[Tensor] = []
        ends = adapt(loss, start, repeat(support, steps), optimiser, order=1, engine="func", history=history)
        return ends, torch.stack(history) if history else next(iter(ends.values())).new_zeros(0)

    with side_by_side("adapt() each task by engine='autograd'"):
        ends, history = torch.vmap(task, randomness="different")(supports)
    check_finite(history, optimiser)
    return {name: (ends[name] - w).mean(0).detach() for name, w in start.items()}


def check_tasks(episodes: Episodes) -> int:
    """The number of tasks. RefusedError where parts of the episodes differ in it, there is none, or a part is no tensor."""
    if not isinstance(episodes, tuple) or len(episodes) != 2:
        raise RefusedError(f"episodes are Episodes(support, query); got {shown(episodes)}; correct them")
    return count_tasks(episodes)


def count_tasks(tree: Any) -> int:
    """The tasks along the first axis of all tensors of a tree. RefusedError where they differ, or are none."""
    leaves = pytree.tree_leaves(tree)
    odd = [leaf for leaf in leaves if not isinstance(leaf, Tensor) or not leaf.ndim]
    if odd or not leaves:
        raise RefusedError(
            f"episodes hold tensors, tasks along their first axis; got {shown(odd[0] if odd else tree)}; stack them"
        )
    counts = {len(leaf) for leaf in leaves}
    if len(counts) != 1 or counts == {0}:
        said = "support and query hold the same tasks, one at least, along their first axis"
        raise RefusedError(f"{said}; got {sorted(counts)}; correct them")
    return counts.pop()


def _apart(episodes: Episodes) -> list[Episodes]:
    leaves, structure = pytree.tree_flatten(episodes)
    return [pytree.tree_unflatten([leaf[i] for leaf in leaves], structure) for i in range(len(leaves[0]))]
