"""Task inference in one forward and one backward (Wortsman et al. 2020, section 3.3)."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from neuromod.errors import RefusedError
from neuromod.inference.objectives import entropy
from neuromod.modulated import Modulated


def one_shot(
    model: Modulated,
    x: Tensor,
    *,
    tasks: Sequence[int],
    objective: Callable[[Tensor], Tensor] = entropy,
    sites: Sequence[str] | None = None,
    chunk: int = 64,
) -> Tensor:
    """Scores (B, k) of the learned ``tasks`` for every input, from one gradient at the superposition of all tasks.

    With ``E_i`` the edits of task i (``W * M_i``) and ``p(a) = f(x ; sum_i a_i E_i)``, ``a_i = 1/k``:
    ``score_i = -dH/da_i = -sum_sites <E_i, dH/dE>``. So one gradient with respect to the mean edits serves all tasks, and
    the rest is k inner products. ``sites`` restricts the sum to some tensors (those of the first layer, say); ``chunk``
    inputs have their gradients in memory at a time. For inputs that share an unknown task sum the scores over them.

    Refused: heads of different widths, and modulations that depend on more than the task.
    """
    if not tasks:
        raise RefusedError("task inference needs learned tasks; got none; pass tasks=model.tasks()")
    with torch.no_grad():
        stacked = _stack([model.edits(task=task) for task in tasks])
    mean = {name: value.mean(0) for name, value in stacked.items()}
    watched = _watched(model, mean, sites)
    pieces = [
        _scores(model, part, stacked, mean, watched, objective) for part in x.split(chunk, model.target.batch_axis)
    ]
    return torch.cat(pieces)


def _scores(
    model: Modulated,
    x: Tensor,
    stacked: Mapping[str, Tensor],
    mean: Mapping[str, Tensor],
    watched: Sequence[str],
    objective: Callable[[Tensor], Tensor],
) -> Tensor:
    axis = model.target.batch_axis
    fixed = {name: value for name, value in mean.items() if name not in watched}

    def loss(moving: dict[str, Tensor], sample: Tensor) -> Tensor:
        return objective(model.substituted(fixed | moving, sample.unsqueeze(axis))).sum()

    moving = {name: mean[name] for name in watched}
    # Inference needs gradients of its own, also where the caller has switched them off.
    with torch.inference_mode(False), torch.enable_grad():
        copies = {name: value.clone() for name, value in moving.items()}
        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, axis), randomness="different")(
            copies, x.clone()
        )
    # In the dtype of the edits: the inputs may be integers (tokens).
    first = next(iter(stacked.values()))
    scores = first.new_zeros(x.shape[axis], len(first))
    for name in watched:
        scores -= gradients[name].flatten(1) @ stacked[name].flatten(1).T
    return scores


def _stack(edits: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    shapes = [{name: tuple(value.shape) for name, value in edit.items()} for edit in edits]
    odd = next((i for i, s in enumerate(shapes) if s != shapes[0]), None)
    if odd is not None:
        raise RefusedError(
            f"superposed tasks edit the same tensors in the same shapes; entry {odd} differs; use brute_force"
        )
    return {name: torch.stack([edit[name] for edit in edits]) for name in edits[0]}


def _watched(model: Modulated, mean: Mapping[str, Tensor], sites: Sequence[str] | None) -> list[str]:
    unknown = [site for site in sites or () if site not in mean]
    if unknown:
        raise RefusedError(f"sites must be edited by the model; {unknown[0]!r} is not; it edits {sorted(mean)[:4]}")
    # Statistics of norms are averaged with the rest, but a norm has no derivative with respect to them.
    measured = dict(model.target.pristine.named_buffers())
    return [name for name in mean if name not in measured] if sites is None else list(sites)
