"""Gradients of linear layers as their two factors: for one input ``dH/dW = d a^T``, which is never built."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.bank import Bank
from neuromod.inference.objectives import Objective
from neuromod.target.substitute import Edits

Factors = dict[str, tuple[Tensor, Tensor]]


def factorable(bank: Bank, names: Sequence[str]) -> bool:
    """Whether every tensor is the packed weight of a linear layer that maps each input (a row) by itself, in one call."""
    found = bank.layers()
    calls = bank.model.target.probe.calls
    return all(
        name in found
        and type(found[name][1]) is nn.Linear
        and found[name][0].batch == 0
        and len(calls[found[name][0].module]) == 1
        and len(calls[found[name][0].module][0].shape) == 2
        for name in names
    )


def factors(bank: Bank, x: Tensor, edits: Edits, names: Sequence[str], objective: Objective) -> Factors:
    """``a`` (B, in) and ``d = dH/dz`` (B, out) of every layer ``z = W a``, by name, in one backward for all inputs.

    Args:
        bank: of the tasks.
        x: inputs (B, ...).
        edits: where the gradient is taken, the superposition of all tasks for example.
        names: of the weights, for which `factorable` holds.
        objective: H of logits (B, C) to (B,).

    """
    with torch.inference_mode(False), torch.enable_grad():
        with _watched(bank, names) as seen:
            outputs = bank.model.skeleton({name: value.clone() for name, value in edits.items()}, (x.clone(),))
        found = torch.autograd.grad(objective(outputs).sum(), [seen[name][1] for name in names])
    return {name: (seen[name][0].detach(), d) for name, d in zip(names, found, strict=True)}


@contextmanager
def _watched(bank: Bank, names: Sequence[str]) -> Iterator[Factors]:
    """What goes into each layer, and a zero that is added to what comes out, whose gradient is that of the output."""
    seen: Factors = {}

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seen[name] = inputs[0], torch.zeros_like(output, requires_grad=True)
            return output + seen[name][1]

        return hook

    layers = bank.layers()
    handles = [layers[name][1].register_forward_hook(watch(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
