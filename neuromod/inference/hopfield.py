"""Which task are these inputs from, asked of an associative memory (HopSupSup, Wortsman et al. 2020, section 3.5)."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from neuromod.arguments import count, instance, number, shown, task_id, tensor
from neuromod.errors import RefusedError
from neuromod.inference.checks import check_inputs, check_objective, check_tasks
from neuromod.inference.objectives import Objective, entropy
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator
from neuromod.sources.table import Table

RATE, GAMMA = 500.0, 1.5e-3  # the published settings


class Memory(Protocol):
    """What recall asks of a memory of patterns."""

    def energy(self, z: Tensor) -> Tensor:
        """Low at stored patterns."""

    def mean(self) -> Tensor:
        """The mean of the stored patterns."""


class Hopfield:
    """``E(z) = -z' Psi z / 2``, low at the patterns ``z`` in {-1, 1}^d that were stored.

    Storkey's rule (1997): ``Psi += (z z' - I - z h' - h z') / d`` with ``h = Psi z``. One matrix holds all patterns, so it
    does not grow with the tasks. The patterns themselves are kept too, one bit per unit, for `nearest`.

    Args:
        size: d, the units of a pattern.
        like: a tensor of the dtype and on the device of the matrix.

    """

    def __init__(self, size: int, *, like: Tensor | None = None) -> None:
        try:
            size = count(size, "size", least=1, most=10**6)
        except RefusedError:
            raise RefusedError(
                f"a pattern has at least one unit; got size={shown(size)}; pass the number of gated units"
            ) from None
        self.psi = (torch.zeros(()) if like is None else tensor(like, "like")).new_zeros(size, size)
        self.patterns = self.psi.new_zeros(0, size)
        self.tasks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.tasks)

    @classmethod
    def of(cls, model: Modulated, tasks: Sequence[int] | None = None) -> "Hopfield":
        """A memory of the gates of these tasks (all by default)."""
        gate, chosen = gate_of(model), check_tasks(model, tasks)
        memory = cls(sum(site.shape[0] for site in gate.sites), like=gate.like)
        for task in chosen:
            memory.store(pattern(model, task), task=task)
        return memory

    @torch.no_grad()
    def store(self, z: Tensor, *, task: int | None = None) -> None:
        """Store a pattern (d,) of -1 and 1 under a task; by default under the number of patterns so far."""
        size = len(self.psi)
        if tensor(z, "a pattern").shape != (size,) or not bool((z.abs() == 1).all()):
            raise RefusedError(
                f"a memory stores patterns of -1 and 1 of shape ({size},); got {tuple(z.shape)}, values "
                f"{z.flatten()[:3].tolist()}; pass pattern(model, task)"
            )
        name = len(self) if task is None else task_id(task)
        if name in self.tasks:
            raise RefusedError(f"a memory stores a task once; got task {name} again; make a new memory")
        z = z.to(self.psi)
        h = self.psi @ z
        crossed = torch.outer(z, h)
        self.psi += (torch.outer(z, z) - crossed - crossed.T) / size
        self.psi.diagonal().sub_(1 / size)
        self.patterns = torch.cat([self.patterns, z.unsqueeze(0)])
        self.tasks += (name,)

    def energy(self, z: Tensor) -> Tensor:
        """``-z' Psi z / 2`` (...,) of states (..., d), differentiable."""
        products: Tensor = (self._state(z) @ self.psi) * z
        return -products.sum(-1) / 2

    def mean(self) -> Tensor:
        """The mean (d,) of the stored patterns, where recall starts."""
        return self._some().mean(0)

    def nearest(self, z: Tensor) -> int:
        """The task whose pattern agrees with the signs of ``z`` (d,) at most units; the first of equals."""
        return self.tasks[int(self.agreement(z).argmax())]

    def agreement(self, z: Tensor) -> Tensor:
        """The share of units (patterns,) on which each pattern agrees with the signs of ``z`` (d,)."""
        return (self._some() == signs(self._state(z))).double().mean(1)

    def bytes(self) -> int:
        """Bytes of the matrix (symmetric: a triangle) and of the patterns at one bit per unit."""
        size = len(self.psi)
        return size * (size + 1) // 2 * self.psi.element_size() + len(self) * -(-size // 8)

    def _state(self, z: Tensor) -> Tensor:
        if tensor(z, "a state").shape[-1:] != (len(self.psi),):
            raise RefusedError(f"a state has a number for each unit, {len(self.psi)}; got {tuple(z.shape)}; correct it")
        return z

    def _some(self) -> Tensor:
        if not len(self):
            raise RefusedError("a memory recalls what was stored; got none; store a pattern first")
        return self.patterns


# reason: keywords alone behind the memory: the published settings, one for each
def recall(
    model: Modulated,
    batches: Sequence[Tensor],
    memory: Memory,
    *,
    rate: float = RATE,
    gamma: float = GAMMA,
    start: Tensor | None = None,
    objective: Objective = entropy,
) -> Tensor:
    """The state z (d,) that fits unlabelled batches of one task, by one step of SGD for each batch.

    ``z -= rate * dL/dz``, ``L = H(f(x ; 1[z >= 0])) (1 - t/T) + gamma (t/T) E(z)`` at step t of T: first what the network is
    sure of, then what the memory knows. H is the mean entropy of a batch; the gate is hard and its gradient straight-through.

    Args:
        model: hard gates of tasks and nothing else.
        batches: inputs (B, ...), one batch at least.
        memory: of the patterns of the tasks.
        rate: of SGD; the default is published.
        gamma: weight of the energy at the end; the default is published.
        start: the first state (d,); by default the mean of the patterns.
        objective: what the network is sure of is small in; H.

    """
    if not isinstance(batches, list | tuple | Tensor) or getattr(batches, "ndim", 1) == 0:
        raise RefusedError(f"batches are inputs in a list; got {shown(batches)}; pass [x]")
    number(rate, "rate", above=0)
    number(gamma, "gamma", least=0)
    check_objective(objective)
    if not all(callable(getattr(memory, name, None)) for name in ("energy", "mean")) or isinstance(
        memory, type | Tensor
    ):
        raise RefusedError(f"a memory has energy() and mean(); got {shown(memory)}; pass Hopfield.of(model)")
    if not len(batches):
        raise RefusedError("recall takes a step a batch; got no batch; pass the inputs in batches")
    z = (memory.mean() if start is None else tensor(start, "start", 1)).detach().clone()
    for x in batches:
        check_inputs(instance(model, Modulated, "model"), x)
    total = len(batches)
    with torch.inference_mode(False), torch.enable_grad():
        for step, x in enumerate(batches):
            state = z.clone().requires_grad_()
            fit = objective(gated_logits(model, state, x.clone())).mean()
            loss = fit * (1 - step / total) + gamma * (step / total) * memory.energy(state)
            z = z - rate * torch.autograd.grad(loss, state)[0]
    return z


def gated_logits(model: Modulated, z: Tensor, x: Tensor) -> Tensor:
    """Logits of inputs under the gates ``1[z >= 0]`` of a state, whatever the task; differentiable in z.

    Args:
        model: hard gates of tasks and nothing else.
        z: (d,), a number for each gated unit, sites one after the other.
        x: inputs (B, ...).

    """
    gate = gate_of(model)
    widths = [site.shape[0] for site in gate.sites]
    x = check_inputs(model, x)
    if tensor(z, "a state", 1).shape != (sum(widths),):
        raise RefusedError(f"a state has a number a gated unit, ({sum(widths)},); got {tuple(z.shape)}; correct it")
    row = {f"{site.label}/code": part for site, part in zip(gate.sites, z.split(widths), strict=True)}
    logits: Tensor = model.skeleton(gate.edits(row, model.skeleton.tensors), (x,))
    return logits


@torch.no_grad()
def pattern(model: Modulated, task: int) -> Tensor:
    """The pattern (d,) of a task: 1 where its gate is open, -1 where it is shut, sites one after the other."""
    gate = gate_of(model)
    (task,) = check_tasks(model, [task])
    row = gate.stored(task)
    return torch.cat([signs(row[f"{site.label}/code"]) for site in gate.sites])


def signs(z: Tensor) -> Tensor:
    """1 where a unit's number is 0 or more, else -1."""
    return torch.where(z >= 0, 1.0, -1.0).to(z)


def gate_of(model: Modulated) -> Modulator:
    """The hard gate of a model that has nothing else; refused otherwise."""
    found = list(instance(model, Modulated, "model").named_modulators().values())
    gates = [
        m for m in model.readers("task").values() if m.kind.is_gate and m.kind.hard and isinstance(m.source, Table)
    ]
    if len(found) != 1 or found != gates:
        raise RefusedError(
            f"recall reads hard gates of tasks and nothing beside them; the model has {list(model.named_modulators())}; "
            "use Modulated(target, Modulator(Gate('hard'), Table(...), ...))"
        )
    return found[0]
