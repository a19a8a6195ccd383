"""A difference of weights beside the weights, frozen and shared by all tasks: what a `Switch` acts on."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from neuromod.arguments import count, instance, number, one_of, shown
from neuromod.errors import RefusedError, nearest, refusing
from neuromod.seeds import generator

DELTA = "_delta"
"""What the buffer of a difference is called, behind the name of its weight."""
MERGES = ("sum", "elect", "ones")
Weights = nn.Module | Mapping[str, Tensor] | str | Path
"""A network, its state dict, or a safetensors file of it."""


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """What may get a difference: floating parameters of two axes or more, by name, tied ones once."""
    return {n: p.detach() for n, p in net.named_parameters() if p.ndim >= 2 and p.is_floating_point()}


def task_vector(base: nn.Module, tuned: Weights) -> dict[str, Tensor]:
    """``tuned - base`` of every weight of two axes or more, by name (a task vector, Ilharco et al. 2023).

    Refused: a checkpoint of another network, weights that lack, other shapes, and numbers that are not finite.

    Args:
        base: the network that all were tuned from.
        tuned: a network of its architecture, its state dict, or the path of a safetensors file with it.

    """
    own, given = weights_of(instance(base, nn.Module, "the base of a difference")), _state(tuned)
    vector = {}
    for name, weight in own.items():
        value = given.get(name)
        if value is None:
            raise RefusedError(
                f"a tuned network has the weights of its base; {name!r} is missing, nearest: {nearest(name, given)}; "
                "pass a checkpoint of the same architecture"
            )
        if not isinstance(value, Tensor) or value.shape != weight.shape:
            raise RefusedError(
                f"a tuned network has the shapes of its base; {name!r} is {tuple(weight.shape)}, got {shown(value)}; "
                "pass a checkpoint of the same architecture"
            )
        difference = value.detach().to(weight) - weight
        if not bool(difference.isfinite().all()):
            raise RefusedError(f"weights are finite; {name!r} of the tuned network has NaN or infinity; tune it again")
        vector[name] = difference
    return vector


def shared_delta(
    base: nn.Module, tuned: Sequence[Weights], *, merge: Literal["sum", "elect", "ones"] = "sum"
) -> nn.Module:
    """A copy of a network with a difference beside each of its weights, one for all tasks; `Switch` says what a task takes of it.

    Its outputs are those of ``base``. Weights whose difference is 0 everywhere get none. ``"sum"`` adds the task vectors (TALL masks, Wang
    et al. 2024, eq. 3); ``"elect"`` takes at each place the sign of the sum, and of the vectors with that sign the largest (EMR, Huang et
    al. 2024, section 3.2); ``"ones"`` is 1 wherever a weight moved at all (BitDelta, Liu et al. 2024: signs and a scale are the task's).

    >>> base, tuned = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> net = shared_delta(base, [tuned])
    >>> torch.equal(net.weight_delta, tuned.weight - base.weight)
    True

    Args:
        base: a plain network; it is not changed.
        tuned: copies of it that were tuned, one or more: networks, state dicts, or paths of safetensors files.
        merge: how one difference is made of theirs.

    """
    one_of(merge, "merge", MERGES)
    if isinstance(tuned, str | Path | nn.Module | Mapping) or not isinstance(tuned, Sequence) or not tuned:
        raise RefusedError(
            f"a shared difference is made of a list of tuned networks; got {shown(tuned)}; pass [net, ...]"
        )
    vectors = [task_vector(base, one) for one in tuned]
    merged = {name: _merged([vector[name] for vector in vectors], merge) for name in weights_of(base)}
    moved = {name: delta for name, delta in merged.items() if bool(delta.any())}
    if not moved:
        raise RefusedError(
            "tuned networks differ from their base; all of these weigh the same; pass others, or tune them"
        )
    return _with(base, moved)


def random_delta(base: nn.Module, *, like: nn.Module | None = None, size: float = 1.0, seed: int = 0) -> nn.Module:
    """A copy of a network with a *random* frozen difference beside each weight, which is drawn and never learned.

    Normal numbers of the root mean square of the difference of ``like``, or of the weight itself.

    Args:
        base: a plain network; it is not changed.
        like: a network that `shared_delta` made of this base; weights without a difference there get none here.
        size: a factor on all of it, above 0.
        seed: of the draws.

    """
    number(size, "size, the factor of a random difference,", above=0)
    own = weights_of(instance(base, nn.Module, "the base of a difference"))
    buffers = None if like is None else dict(instance(like, nn.Module, "like").named_buffers())
    drawn = {}
    for name, weight in own.items():
        model = weight if buffers is None else buffers.get(name + DELTA)
        if model is None:
            continue
        noise = torch.randn(weight.shape, generator=generator(count(seed, "seed"), "delta", name))
        drawn[name] = noise.to(weight) * model.square().mean().sqrt() * size
    if not any(bool(delta.any()) for delta in drawn.values()):
        raise RefusedError(
            "a random difference has the size of weights or of another difference; got none; pass others"
        )
    return _with(base, drawn)


def _state(tuned: Weights) -> Mapping[str, Tensor]:
    if isinstance(tuned, nn.Module):
        return dict(tuned.named_parameters(remove_duplicate=False))
    if isinstance(tuned, str | Path):
        with refusing(f"a tuned network is read from a safetensors file; {str(tuned)!r} is none", "correct the path"):
            return load_file(str(tuned))
    if isinstance(tuned, Mapping):
        return tuned
    raise RefusedError(
        f"a tuned network is a module, its state dict, or the path of a safetensors file; got {shown(tuned)}; pass one"
    )


def _merged(vectors: list[Tensor], merge: str) -> Tensor:
    stacked = torch.stack(vectors)
    total = stacked.sum(0)
    if merge == "sum":
        return total
    if merge == "ones":
        return (stacked != 0).any(0).to(total.dtype)
    elected = total.sign()
    return elected * (stacked * (stacked.sign() == elected)).abs().amax(0)


def _with(base: nn.Module, deltas: Mapping[str, Tensor]) -> nn.Module:
    net = copy.deepcopy(base)
    for name, delta in deltas.items():
        prefix, _, leaf = name.rpartition(".")
        module = net.get_submodule(prefix)
        if hasattr(module, leaf + DELTA):
            raise RefusedError(f"a weight has one difference beside it; {name!r} has one already; pass the plain base")
        module.register_buffer(leaf + DELTA, delta)
    return net
