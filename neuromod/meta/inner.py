"""The inner loop: a few steps of an optimiser on a dict of tensors, through which the outer gradient flows.

A loss is a function of the *fast* tensors and a batch; whatever else it uses (the slow tensors, a frozen network) it brings
along itself, so gradients are taken for the fast tensors and for nothing else. With ``order=2`` the outer gradient is exact,
``prod_k (I - rate H_k) dL_query/dw_K`` for SGD (Finn et al. 2017, eq. 1); with ``order=1`` the inner gradients count as
constants (FOMAML), and the outer gradient is that of the query loss at the tensors after the last step.

Two engines compute the same. ``func`` (`torch.func`) can be mapped over tasks by `torch.vmap`; ``autograd`` stops at a loss that
is not finite and can recompute its steps in the backward pass, so that memory does not grow with their activations.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.utils.checkpoint import checkpoint

from neuromod.arguments import flag, function, instance, one_of, shown
from neuromod.errors import RefusedError
from neuromod.meta.norms import unfused
from neuromod.meta.optimisers import InnerOptimiser, Tensors, check_optimiser

Loss = Callable[[Tensors, Any], Tensor]
"""Fast tensors and a batch to a scalar."""
Engine = Literal["autograd", "func"]
UNMAPPED = ("Batching rule not implemented", "vmap: ", "Batch norm got a batched tensor", "Instance norm got a batched")
"""Words of torch about an operation that has no batched form: a recurrent layer, a buffer that is written, a number that is read."""


# reason: keywords alone behind the optimiser, each a choice of the algorithm
def adapt(
    loss: Loss,
    fast: Tensors,
    batches: Iterable[Any],
    optimiser: InnerOptimiser,
    *,
    order: int,
    engine: Engine = "autograd",
    recompute: bool = False,
    history: list[Tensor] | None = None,
) -> dict[str, Tensor]:
    """The fast tensors after one step of ``optimiser`` on each batch.

    RefusedError for an order that is not 1 or 2, a second order inside `torch.compile`, and, by the engine "autograd", a loss that
    is not finite. Inside `torch.vmap` no number can be looked at: the engine "func" adds its inner losses to ``history``, and
    `check_finite` looks at them afterwards (`maml` does).

    Args:
        loss: of fast tensors and a batch, a scalar.
        fast: tensors by name, as they are before the first step.
        batches: one for each step.
        optimiser: `SGD` or `Adam` of this package.
        order: 1: inner gradients count as constants (FOMAML); 2: exact.
        engine: "autograd", or "func", which can be mapped over tasks.
        recompute: keep of each step its tensors alone and compute the rest again in the backward pass ("autograd" only).
        history: a list that the engine "func" adds each inner loss to.

    """
    _check(fast, optimiser, order, engine, recompute)
    function(loss, "loss")
    if isinstance(batches, str | bytes) or not isinstance(batches, Iterable) or getattr(batches, "ndim", 1) == 0:
        raise RefusedError(f"batches come in a list, one for each step; got {shown(batches)}; pass [batch]")
    moved, memory = dict(fast), optimiser.start(fast)
    if engine == "autograd":
        # Views: a loss that uses the network's own tensors in the place of those that it is given does not depend on them.
        moved = {n: w.view_as(w) if w.requires_grad else w.detach().requires_grad_() for n, w in moved.items()}
    for number, batch in enumerate(batches):
        moved, memory = _step(loss, moved, batch, optimiser, memory, number, order, engine, recompute, history)
    return moved


# reason: all that one step needs, so that the backward pass can run it again
def _step(
    loss: Loss,
    fast: dict[str, Tensor],
    batch: Any,
    optimiser: InnerOptimiser,
    memory: Any,
    number: int,
    order: int,
    engine: Engine,
    recompute: bool,
    history: list[Tensor] | None,
) -> tuple[dict[str, Tensor], Any]:
    def step(fast: dict[str, Tensor], memory: Any) -> tuple[dict[str, Tensor], Any]:
        if engine == "func":
            gradients, value = grad_and_value(lambda fast: _judged(loss, fast, batch))(fast)
            if history is not None:
                history.append(value.detach())
        else:
            value = _judged(loss, fast, batch)
            check_finite(value.detach().reshape(1), optimiser, number)
            taken = torch.autograd.grad(value, list(fast.values()), create_graph=order == 2, allow_unused=True)
            if all(g is None for g in taken):
                raise _unmoved(fast)
            gradients = {
                n: torch.zeros_like(w) if g is None else g for (n, w), g in zip(fast.items(), taken, strict=True)
            }
        if order == 1:
            gradients = {name: g.detach() for name, g in gradients.items()}
        return optimiser.step(fast, gradients, memory)

    if recompute and order == 2:
        return checkpoint(step, fast, memory, use_reentrant=False)
    return step(fast, memory)


def _judged(loss: Loss, fast: dict[str, Tensor], batch: Any) -> Tensor:
    """The loss of a batch, by norms that are exact. Refused: what is no scalar, or does not depend on the fast tensors."""
    with unfused():
        value = loss(fast, batch)
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        raise RefusedError(f"a loss is a scalar tensor of floats; got {shown(value)}; take its mean, say")
    # Inside torch.func it asks whether the value depends on what is differentiated: the fast tensors alone.
    if not value.requires_grad:
        raise _unmoved(fast)
    return value


def _unmoved(fast: Tensors) -> RefusedError:
    return RefusedError(
        f"an inner loss uses the fast tensors that it is given; it uses none of {shown(list(fast))}; call f(fast, x), not the network"
    )


@contextmanager
def side_by_side(remedy: str) -> Iterator[None]:
    """Refuse what `torch.vmap` can't run, in its own words.

    Args:
        remedy: what runs tasks one after the other.

    """
    try:
        yield
    except RuntimeError as error:
        first = str(error).partition("\n")[0]
        if not any(words in first for words in UNMAPPED):
            raise
        raise RefusedError(f"tasks run side by side under torch.vmap; this can't: {first}; {remedy}") from error


def backward(loss: Tensor) -> None:
    """The outer gradient, added to ``.grad`` of whatever the loss was computed from.

    RefusedError where the second order goes through an operation that can't be differentiated twice.
    """
    if not instance(loss, Tensor, "loss").requires_grad or loss.numel() != 1:
        raise RefusedError(f"an outer loss is a scalar with a gradient; got {shown(loss.detach())}; take its mean")
    try:
        loss.backward()
    except RuntimeError as error:
        text = str(error)
        if "is not implemented" not in text and "differentiate twice" not in text:
            raise
        first = text.splitlines()[0]
        raise RefusedError(
            f"order=2 needs operations with a second derivative; got: {first}; take another operation, or order=1"
        ) from error


def _check(fast: Tensors, optimiser: InnerOptimiser, order: int, engine: str, recompute: bool) -> None:
    check_order(order)
    check_not_compiled(order)
    check_fast(fast)
    check_optimiser(optimiser)
    one_of(engine, "engine", ("autograd", "func"))
    if engine == "autograd" and not torch.is_grad_enabled():
        raise RefusedError("the engine 'autograd' needs gradients; got torch.no_grad(); leave it, or take 'func'")
    if flag(recompute, "recompute") and engine == "func":
        raise RefusedError(
            "recompute=True needs saved tensors, which torch.func forbids; got engine='func'; take 'autograd'"
        )


def check_fast(fast: Tensors) -> None:
    """Refuse what an inner loop can't move: no tensors by name, or tensors of something else than floats."""
    if not isinstance(fast, Mapping):
        raise RefusedError(f"fast tensors come by name; got {shown(fast)}; pass what Functional.start() returns")
    if not fast:
        raise RefusedError("an inner loop moves tensors; got none; name what is fast")
    odd = next((n for n, w in fast.items() if not isinstance(w, Tensor) or not w.is_floating_point()), None)
    if odd is not None:
        raise RefusedError(f"fast tensors are tensors of floats; got {shown(fast[odd])} for {odd!r}; convert it")


def check_order(order: int) -> None:
    """Refuse an order that is neither 1 nor 2."""
    if isinstance(order, bool) or not isinstance(order, int) or order not in (1, 2):
        raise RefusedError(
            f"order must be 1 or 2; got {shown(order)}; pass 1 for first-order gradients, 2 for exact ones"
        )


def check_not_compiled(order: int) -> None:
    """Refuse the gradient of a gradient inside `torch.compile`."""
    if order == 2 and torch.compiler.is_compiling():
        raise RefusedError(
            "order=2 differentiates a gradient, which torch.compile can't; got both; compile the network alone"
        )


def check_finite(losses: Tensor, optimiser: InnerOptimiser, first: int = 0) -> None:
    """Refuse inner losses that are not finite, and name the first of them.

    Args:
        losses: (K,) of steps, or (T, K) of tasks side by side.
        optimiser: whose rate is named in the refusal.
        first: the number of the first step.

    """
    if bool(losses.isfinite().all()):
        return
    rows = torch.atleast_2d(losses)
    broken = ~rows.isfinite()
    column = int(broken.any(0).nonzero()[0])
    value, rate = rows[broken[:, column], column][0], optimiser.rate
    said = "learned rates" if isinstance(rate, Mapping) else float(rate)
    raise RefusedError(
        f"the inner loss must stay finite; got {float(value)} at step {first + column} with rate {said}; lower the rate"
    )
