"""One watched forward: which tensors it reads and writes, what each module puts out, where a gradient arrives."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError, refusing
from neuromod.target.copying import copied, state_of, tensors_of
from neuromod.target.samples import signature
from neuromod.target.structure import Path, first, tensors
from neuromod.target.uses import Guard, Uses, WrittenError, refuse_reached, unmoved


@dataclass(frozen=True)
class Seen:
    """A tensor that went by in one run.

    Args:
        shape: its shape.
        rows: signatures of its rows by axis, for every axis that is as long as the batch.
        eps: of its dtype.

    """

    shape: tuple[int, ...]
    rows: Mapping[int, Tensor]
    eps: float

    @classmethod
    def of(cls, t: Tensor, size: int) -> "Seen":
        """What is kept of a tensor in a run of ``size`` samples."""
        eps = torch.finfo(t.dtype).eps if t.is_floating_point() or t.is_complex() else 0.0
        rows = {axis: signature(t, axis) for axis, n in enumerate(t.shape) if n == size}
        return cls(tuple(t.shape), rows, eps)


@dataclass
class Log:
    """What one forward showed.

    Args:
        size: samples of the batch.
        calls: of every module that is called, by name, the first tensor of each output.
        outputs: every tensor of the network's output, by path.
        finite: whether these hold finite numbers alone.

    """

    size: int
    calls: dict[str, list[Seen]] = field(default_factory=dict)
    outputs: dict[Path, Seen] = field(default_factory=dict)
    finite: bool = True

    def take(self, output: Any) -> None:
        """Note what the network puts out."""
        found = tensors(output)
        self.outputs = {path: Seen.of(t, self.size) for path, t in found.items()}
        self.finite = all(bool(torch.isfinite(t).all()) for t in found.values())


@dataclass
class First(Log):
    """What the first forward shows beside it, and its backward.

    Args:
        flow: pairs of modules without children of which the second reads what the first put out.
        same: of a module that puts out what another does (a container), the name of that one.
        odd: names of modules that are not always called with one tensor alone.
        reads: how often each tensor is read, by name.
        reached: names of the tensors that a gradient reaches, and of the modules whose outputs it reaches; None where the
            network has no backward.
        recomputes: whether the backward calls modules again (checkpointed segments).
        keeps: whether modules, attributes or buffers were changed by the forward.
        written: names of the parameters that the forward writes into.
        writes_inputs: whether it writes into its inputs.

    """

    flow: dict[tuple[str, str], None] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    odd: set[str] = field(default_factory=set)
    reads: Counter[str] = field(default_factory=Counter)
    reached: frozenset[str] | None = None
    recomputes: bool = False
    keeps: bool = False
    written: frozenset[str] = frozenset()
    writes_inputs: bool = False


def watched(net: nn.Module, inputs: tuple[Tensor, ...], size: int, cloned: frozenset[str]) -> Log:
    """A forward without gradients on a copy, and what its modules put out.

    Args:
        net: the pristine network.
        inputs: samples.
        size: how many.
        cloned: names of the parameters that it writes into.

    """
    log, twin = Log(size), copied(net, cloned=cloned)

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            found = first(output)
            if found is not None:
                log.calls.setdefault(name, []).append(Seen.of(found, size))

        return hook

    for name, module in twin.named_modules():
        module.register_forward_hook(note(name))
    with torch.no_grad(), warnings.catch_warnings():
        # The first forward has said what there is to say; a checkpoint without gradients says more.
        warnings.simplefilter("ignore")
        log.take(twin(*inputs))
    return log


def watched_first(net: nn.Module, inputs: tuple[Tensor, ...], size: int, cloned: frozenset[str]) -> First:
    """The first forward and its backward, on a copy whose parameters ask for gradients; the network itself stays untouched.

    Of a network that runs only where nothing asks for a gradient there is no backward, and nothing is said of gradients.

    Args:
        net: the pristine network; its parameters share storage with the user's.
        inputs: samples, that may be written.
        size: how many.
        cloned: names of the parameters that it is known to write into.

    """
    try:
        try:
            with refusing("a network runs", "correct it"):
                return _watched_first(net, inputs, size, cloned, trained=True)
        except RefusedError:
            # The network's own error is raised again, if it was not about gradients.
            return _watched_first(net, inputs, size, cloned, trained=False)
    except WrittenError as error:
        return watched_first(net, inputs, size, cloned | {str(error)})


def _watched_first(
    net: nn.Module, inputs: tuple[Tensor, ...], size: int, cloned: frozenset[str], *, trained: bool
) -> First:
    twin = copied(net, cloned=cloned, trained=trained)
    # Copies, for the forward may write into them; a leaf that asks for a gradient could not be written.
    inputs = tuple(x.detach().requires_grad_(trained and x.is_floating_point()).clone() for x in inputs)
    for module in twin.modules():
        # cuDNN has no backward of these in eval mode, and they draw nothing here.
        module.training |= type(module) in (nn.RNN, nn.LSTM, nn.GRU)
    named = tensors_of(twin)
    by_id: dict[int, list[str]] = {}
    for name, tensor in named.items():
        by_id.setdefault(id(tensor), []).append(name)
    log = First(size, written=cloned)
    arrived, behind = set[str](), [False]
    hooks = _Hooks(log, arrived, behind)
    handles = [m.register_forward_hook(hooks.of(name, m)) for name, m in twin.named_modules()]
    versions = [x._version for x in inputs]
    held = state_of(twin)
    own = {name: p for name, p in twin.named_parameters() if name not in cloned}
    uses = Uses(by_id)
    with torch.set_grad_enabled(trained), Guard(own), uses:
        output = twin(*inputs)
    for tensor in tensors(output).values():
        # A weight that is put out is read beside its module's calls.
        uses.see(tensor)
    refuse_reached(net, uses.outside)
    log.reads, log.keeps = uses.seen, state_of(twin) != held
    log.writes_inputs = versions != [x._version for x in inputs]
    log.take(output)
    if trained:
        with unmoved(uses.outside.values()):
            _backward(log, twin, output, by_id, arrived, behind)
    for handle in handles:
        handle.remove()
    return log


class _Hooks:
    """Hooks that note calls, which module reads which, and whether a gradient comes back."""

    def __init__(self, log: First, arrived: set[str], behind: list[bool]) -> None:
        self.log, self.arrived, self.behind = log, arrived, behind
        # Tensors are kept beside their makers: a freed one would pass its id on to another.
        self.made: dict[int, tuple[str, Tensor]] = {}

    def of(self, name: str, module: nn.Module) -> Callable[..., None]:
        leaf = not any(True for _ in module.children())

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            log, found = self.log, first(output)
            if self.behind[0]:
                # A reentrant segment has its gradients in the recomputation alone.
                log.recomputes = True
                self.await_gradient(found, name)
                return
            if len(args) != 1 or not isinstance(args[0], Tensor):
                log.odd.add(name)
            if found is None:
                return
            log.calls.setdefault(name, []).append(Seen.of(found, log.size))
            if args and id(args[0]) in self.made and leaf:
                log.flow[self.made[id(args[0])][0], name] = None
            if not leaf and id(found) in self.made:
                log.same[name] = self.made[id(found)][0]
            elif leaf:
                self.made[id(found)] = (name, found)
            self.await_gradient(found, name)

        return hook

    def await_gradient(self, found: Tensor | None, name: str) -> None:
        """Note the name when a gradient arrives at the tensor."""
        if found is not None and found.requires_grad:
            found.register_hook(lambda grad: self.arrived.add(name))


def _backward(
    log: First,
    twin: nn.Module,
    output: Any,
    by_id: Mapping[int, list[str]],
    arrived: set[str],
    behind: list[bool],
) -> None:
    """Where a gradient arrives, and whether modules are called again on the way."""
    ends = [t.abs().sum() if t.is_complex() else t.sum() for t in tensors(output).values() if t.requires_grad]
    behind[0], uses = True, Uses(by_id)
    try:
        with uses:
            torch.autograd.backward(ends)
    except (RuntimeError, NotImplementedError):
        # No derivative is known of some operation: nothing can be said of gradients.
        log.reached = None
        return
    log.recomputes |= bool(uses.seen)
    alive = {n for tensor in twin.parameters() if tensor.grad is not None for n in by_id[id(tensor)]}
    log.reached = frozenset(alive | arrived)
