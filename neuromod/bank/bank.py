"""`Bank`: the learned tasks of a model as one thing that can be superposed."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from neuromod.arguments import instance, named, one_of, task_ids, tensor
from neuromod.bank import packed
from neuromod.bank.access import Path, check_path
from neuromod.bank.coding import entropy_bound
from neuromod.errors import RefusedError, refusing
from neuromod.kinds.bits import unpack
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator
from neuromod.target.sites import Site
from neuromod.target.substitute import Edits

BLOCK = 1 << 21  # masked weights that are unpacked at a time: they stay in a cache


class Bank:
    """The edits ``E_i`` of k tasks, masks at one bit per weight, and their arithmetic.

    ``E_i`` are the tensors that task i puts in the place of the target's: ``W * M_i``, the gain and bias of a tap, a head. A
    tensor that one mask alone writes, and whose tasks are sealed, is never unpacked for all tasks: how many tasks keep
    each weight is counted (one integer per weight, whatever k is) and products are taken over the bits. The edits of other
    tensors are stacked.

    Args:
        model: its modulations depend on the task alone.
        tasks: which; all by default. More with `grow`.
        path: which loops run over packed masks (`packed`): "compiled", "plain", or the best that there is.

    """

    def __init__(self, model: Modulated, tasks: Sequence[int] | None = None, *, path: Path | None = None) -> None:
        self.model, self.path = instance(model, Modulated, "model"), path
        check_path(path)
        self.tasks: tuple[int, ...] = ()
        self._masks = _maskable(model)
        self._kept: dict[str, Tensor] = {}
        self._edits: list[Edits] = []
        self._stacked: Edits = {}
        self._mean: Edits = {}
        self.grow(model.tasks() if tasks is None else tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    @torch.no_grad()
    def grow(self, tasks: Sequence[int]) -> None:
        """Take in more tasks; the cost of one does not depend on how many there are."""
        new = task_ids(tasks)
        unknown = [task for task in new if task not in self.model.tasks()]
        if unknown:
            raise RefusedError(
                f"a bank holds tasks of its model; task {unknown[0]} is none; it has {list(self.model.tasks())[:8]}"
            )
        if not self.tasks and not new:
            raise RefusedError("task inference needs learned tasks; got none; pass tasks=model.tasks()")
        if not new:
            return
        if len({*self.tasks, *new}) < len(self.tasks) + len(new):
            raise RefusedError(
                f"a bank holds a task once; got {list(new)[:8]} beside {len(self)} others; drop the double"
            )
        live = {n for n, (m, _) in self._masks.items() if any(task not in m.sealed.places for task in new)}
        if live and self.tasks:
            raise RefusedError(
                "a bank of sealed tasks grows by sealed ones; got a live one; call model.seal(task) first"
            )
        self._masks = {name: where for name, where in self._masks.items() if name not in live}
        self.tasks += new
        self._mean = {}
        for name, (_, site) in self._masks.items():
            share = packed.mean(self.bits(name, new), math.prod(site.shape), torch.float64, path=self.path)
            kept = (share * len(new)).round().int().view(site.shape)
            self._kept[name] = self._kept[name] + kept if name in self._kept else kept
        self._grow_dense(new)

    def bits(self, name: str, tasks: Sequence[int] | None = None) -> Tensor:
        """The packed masks of one tensor, uint8 (k, bytes)."""
        modulator, site = self._masks[one_of(name, "a masked tensor", self._masks)]
        chosen = self.tasks if tasks is None else task_ids(tasks)
        strange = set[int]() if tasks is None else set(chosen) - set(self.tasks)
        if strange:
            raise RefusedError(
                f"a bank has the masks of its tasks; task {min(strange)} is none; it has {list(self.tasks)[:8]}"
            )
        return modulator.sealed.column(f"{site.label}/bits", chosen)

    # ---- superposition ---------------------------------------------------------------------------------------------

    def mean(self) -> Edits:
        """``1/k sum_i E_i``, at a cost that does not depend on k where tensors are masked."""
        if not self._mean:
            masked = {n: self._weight(n) * kept.to(self._weight(n)) / len(self) for n, kept in self._kept.items()}
            self._mean = masked | {name: value.mean(0) for name, value in self._dense().items()}
        return dict(self._mean)

    def superpose(self, alphas: Tensor) -> Edits:
        """``sum_i a_i E_i`` for weights (k,), or for B rows of them (B, k), each tensor then with a leading axis."""
        if tensor(alphas, "alphas", 1, 2).shape[-1:] != (len(self),):
            raise RefusedError(
                f"a superposition has a weight per task; got {tuple(alphas.shape)} for {len(self)} tasks"
            )
        masked = {}
        for name, (_, site) in self._masks.items():
            mixed = packed.superpose(self.bits(name), alphas, math.prod(site.shape), path=self.path)
            masked[name] = mixed.view(*alphas.shape[:-1], *site.shape) * self._weight(name)
        return masked | {n: torch.tensordot(alphas.to(v), v, dims=1) for n, v in self._dense().items()}

    def project(self, gradients: Mapping[str, Tensor], *, planes: int | None = None) -> Tensor:
        """``sum_names <E_i, G>`` for every task: (k,) of gradients of the tensors' shapes, (B, k) of B of them.

        With ``planes`` the gradient at a mask is rounded to so many bits and the products are counts of bits
        (`packed.project`); otherwise they are exact in the gradient's dtype.
        """
        total: Tensor | None = None
        for name, gradient in self._checked(gradients).items():
            if name in self._masks:
                flat = (gradient * self._weight(name)).flatten(gradient.ndim - self._weight(name).ndim)
                part = packed.project(self.bits(name), flat, planes=planes, path=self.path)
            else:
                stack = self._dense()[name]
                part = gradient.flatten(gradient.ndim - stack.ndim + 1) @ stack.flatten(1).T
            total = part if total is None else total + part
        assert total is not None
        return total

    def _checked(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        shapes = {name: self._weight(name).shape for name in self._masks}
        shapes |= {name: stack.shape[1:] for name, stack in self._dense().items()}
        for name, gradient in instance(gradients, dict, "gradients").items() or [("", None)]:
            shape = shapes.get(name)
            given = tuple(tensor(gradient, f"the gradient of {name!r}").shape)
            if shape is None or given[-len(shape) or len(given) :] != tuple(shape) or len(given) > len(shape) + 1:
                raise RefusedError(
                    f"gradients are those of tensors that the tasks edit, of their shapes; got {name!r} of {given}; correct them"
                )
        return gradients

    def layers(self) -> dict[str, tuple[Site, nn.Module]]:
        """The site and the layer of every tensor that is masked and packed, in the network that runs."""
        return {n: (site, self.model.skeleton.layer(site.module)) for n, (_, site) in self._masks.items()}

    def project_factors(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """``sum_names <W * M_i, d a^T>`` for every task, (B, k), of ``a`` (B, in) and ``d`` (B, out) by name.

        ``<W * M_i, d a^T> = d (W * M_i) a``: a few tasks are unpacked at a time, and nothing of size B times weights is built.
        """
        total: Tensor | None = None
        for name, pair in named(factors, "factors").items():
            bits, weight = self.bits(name), self._weight(name)
            with refusing(
                f"factors are (B, in) and (B, out); those of {name!r} are not", "pass pairs of tensors by name"
            ):
                a, d = pair
                parts = [_bilinear(part, weight, a, d) for part in bits.split(max(1, BLOCK // weight.numel()))]
                score = torch.cat(parts, 1)
                total = score if total is None else total + score
        if total is None:
            raise RefusedError(
                "factors are those of one masked tensor at least; got none; pass pairs of tensors by name"
            )
        return total

    # ---- accounts --------------------------------------------------------------------------------------------------

    def overlap(self) -> Tensor:
        """Intersection over union of the masks of every pair of tasks, float (k, k), over all masked tensors."""
        if not self._masks:
            raise RefusedError("overlap compares sealed masks; the bank has none; seal tasks of a mask kind first")
        return packed.overlap(torch.cat([self.bits(name) for name in self._masks], 1))

    def bytes_per_task(self) -> float:
        """Mean bytes that must be kept for a task: masks, statistics, heads in their dtype, and its index (8 bytes)."""
        return sum(map(self.model.bytes_per_task, self.tasks)) / len(self) + 8

    def entropy_bound(self) -> float:
        """Mean bytes per task that any code for independent bits needs: ``sum n H(kept / n) / 8`` over masked tensors."""
        total = 0.0
        for name, (_, site) in self._masks.items():
            masks = [row.numpy().tobytes() for row in self.bits(name).cpu()]
            total += sum(entropy_bound(mask, math.prod(site.shape)) for mask in masks) / len(masks) / 8
        return total

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _weight(self, name: str) -> Tensor:
        return self.model.skeleton.tensors[name]

    def _dense(self) -> Edits:
        if not self._stacked and self._edits:
            self._stacked = {name: torch.stack([edit[name] for edit in self._edits]) for name in self._edits[0]}
        return self._stacked

    def _grow_dense(self, new: Sequence[int]) -> None:
        every = {name for m in self.model.named_modulators().values() for name in m.writes()}
        if every <= set(self._masks):
            return
        self._stacked = {}
        for task in new:
            edits = {n: v.detach() for n, v in self.model.edits(task=task).items() if n not in self._masks}
            first = self._edits[0] if self._edits else edits
            if {n: v.shape for n, v in edits.items()} != {n: v.shape for n, v in first.items()}:
                raise RefusedError(
                    f"superposed tasks edit the same tensors in the same shapes; task {task} differs; use brute_force"
                )
            self._edits.append(edits)


def _bilinear(bits: Tensor, weight: Tensor, a: Tensor, d: Tensor) -> Tensor:
    """``d (W * M_i) a`` of some tasks: (t, bytes), (out, in), (B, in) and (B, out) to (B, t)."""
    masked = torch.stack([unpack(one, tuple(weight.shape), weight.dtype) for one in bits]).mul_(weight)
    sums = (a @ masked.flatten(0, 1).T).unflatten(1, (len(bits), -1))
    scores: Tensor = (sums @ d.unsqueeze(2)).squeeze(2)
    return scores


def _maskable(model: Modulated) -> dict[str, tuple[Modulator, Site]]:
    """Tensors that are written by one modulator alone, as ``W * M`` of the task's mask, by name."""
    modulators = list(model.named_modulators().values())
    found: dict[str, tuple[Modulator, Site]] = {}
    for modulator in model.readers("task").values():
        if modulator.kind.is_mask and modulator.kind.binary:
            found |= {
                s.name: (modulator, s) for s in modulator.sites if sum(s.name in m.writes() for m in modulators) == 1
            }
    return found
