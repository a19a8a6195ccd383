"""The skeleton: a private copy of the user's network that shares its parameters, clones its buffers and carries taps."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from neuromod.errors import RefusedError, nearest
from neuromod.target.copying import copied, tensors_of
from neuromod.target.modes import RATE, set_mode
from neuromod.target.padding import pad, unpad
from neuromod.target.probe import Probe
from neuromod.target.sites import Site
from neuromod.target.structure import first
from neuromod.target.substitute import Anatomy, Edits, anatomy_of, fold, put, put_for_good
from neuromod.target.taps import add_tap

DERIVED = ("tensors", "_anatomy", "_main", "_spare", "_mine")


class Skeleton:
    """The network that runs: `Target.skeleton` makes one for each `Modulated`, which shows it as ``model.skeleton``.

    It is no `nn.Module`, so that its frozen tensors are neither parameters nor state of the model that holds it. A copy
    (`copy.deepcopy`) shares the parameters and has buffers of its own. Threads that call at once run on modules of their own.

    Args:
        net: the network to copy; its parameters share storage with the copy's, its buffers are cloned.
        taps: sites whose modules get a tap, in place before anything can be compiled.
        probe: what the network does, as of the `Target`.
        norm: "frozen" or "batch", as of the `Target`.
        dropout: whether dropout follows `train`, as of the `Target`.
        draws: names of the modules that draw at random in training, as of the `Target`.

    """

    net: nn.Module
    """The copy itself. Hooks on it must be removed again."""
    tensors: Mapping[str, Tensor]
    """Parameters and buffers by name, in the dtype and on the device of the model; tied ones under each name."""

    def __init__(
        self,
        net: nn.Module,
        taps: Iterable[Site] = (),
        *,
        probe: Probe,
        norm: str = "frozen",
        dropout: bool = False,
        draws: frozenset[str] = frozenset(),
    ) -> None:
        self.net = build(net, taps, norm=norm, dropout=dropout)
        self.probe, self.norm, self.dropout, self.draws = probe, norm, dropout, draws
        self._hooks = [_hooks_of(module) for module in self.net.modules()]
        self._mode = False
        self._read()

    def __call__(self, edits: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
        """The network's output with ``edits`` in the place of its tensors; taps fold first where that is exact.

        Args:
            edits: tensors by name, of the shape of what they replace; a tap may have a row per sample, (B, channels).
            inputs: what the network takes, the batch on the target's axis.

        """
        return self.put(self.fold(edits), inputs)

    def fold(self, edits: Mapping[str, Tensor]) -> Edits:
        """The same edits with every one-row tap moved into its layer's weight and bias, where that is exact."""
        return fold(self.net, edits, self._anatomy)

    def put(self, folded: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
        """The output at edits that `fold` returned (inside a `torch.vmap` over samples, say)."""
        if self.probe.writes_inputs:
            inputs = tuple(x.clone() for x in inputs)
        if self.probe.fresh:
            # What the network keeps, writes or calls again in the backward meets these edits and no others.
            return put_for_good(copied(self.net, cloned=self.probe.written), folded, inputs)
        with self.borrowed() as net:
            return put(net, folded, inputs)

    def activation(self, name: str, inputs: tuple[Tensor, ...]) -> Tensor:
        """The output (B, ...) of module ``name`` in one unmodulated forward that stops there, batch axis first.

        Refused: a module that the forward does not call, and one whose output has no batch axis of its own (folded, reordered).
        """
        calls = self.probe.calls
        if name not in calls:
            raise RefusedError(
                f"activation:NAME needs a module that the forward calls; got {name!r}; try {nearest(name, calls)}"
            )
        if calls[name][0].batch is None:
            raise RefusedError(
                f"an embedding is read from an output whose rows are the samples, in their order; those of {name!r} are not; pick "
                "another module"
            )
        if self.probe.writes_inputs:
            inputs = tuple(x.clone() for x in inputs)
        if self.probe.fresh:
            return activation(copied(self.net, cloned=self.probe.written), name, inputs, calls[name][0].batch)
        with self.borrowed() as net:
            return activation(net, name, inputs, calls[name][0].batch)

    def layer(self, name: str) -> nn.Module:
        """The module of that name; hooks on it, set and removed inside `borrowed`, see the calls of this thread alone."""
        return self.net.get_submodule(name)

    @property
    def ties(self) -> Mapping[str, tuple[str, ...]]:
        """Of the first name of every tied tensor, its names in other modules."""
        return self._anatomy.ties

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """Modules that no other thread runs on meanwhile: the skeleton's own, or where these are in use, a copy of them.

        A thread that borrows again while it holds some gets the same.
        """
        if torch.compiler.is_compiling() or getattr(self._mine, "net", None) is not None:
            yield self.net if torch.compiler.is_compiling() else self._mine.net
            return
        own, spare = self._main.acquire(blocking=False), self._spare
        net = self.net if own else self._another()
        self._mine.net = net
        try:
            yield net
        finally:
            self._mine.net = None
            if own:
                self._main.release()
            else:
                spare.append(net)

    def train(self, mode: bool = True) -> None:
        """Eval mode for all but BatchNorm under ``norm="batch"``, requested dropout, and RNNs: these follow ``mode``."""
        set_mode(self.net, training=mode, norm=self.norm, dropout=self.dropout, draws=self.draws)
        self._spare = list[nn.Module]()

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Map every tensor, as `nn.Module.to` does with a change of device or dtype."""
        self.net._apply(fn)
        self._read()

    def _another(self) -> nn.Module:
        try:
            spare: nn.Module = self._spare.pop()
            return spare
        except IndexError:
            # Copied while nobody runs on it: a forward puts other tensors in the place of its own for a while.
            with self._main:
                net = copied(self.net)
        for module, own in zip(net.modules(), self._hooks, strict=True):
            # Hooks that another thread has set for a while are its own.
            for hooks, kept in zip((module._forward_hooks, module._forward_pre_hooks), own, strict=True):
                for key in [key for key in hooks if key not in kept]:
                    del hooks[key]
        return net

    def _read(self) -> None:
        self.tensors = tensors_of(self.net)
        self._anatomy: Anatomy = anatomy_of(self.net, self.probe)
        self._main, self._mine = threading.Lock(), threading.local()
        self._spare = list[nn.Module]()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Skeleton":
        options = {"norm": self.norm, "dropout": self.dropout, "draws": self.draws}
        return Skeleton(self.net, probe=self.probe, **options)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._read()


def _hooks_of(module: nn.Module) -> tuple[frozenset[int], frozenset[int]]:
    return frozenset(module._forward_hooks), frozenset(module._forward_pre_hooks)


def build(net: nn.Module, taps: Iterable[Site] = (), *, norm: str = "frozen", dropout: bool = False) -> nn.Module:
    """Copy ``net`` in eval mode: parameters share storage and ask for no gradient, buffers are clones, ``taps`` are in place.

    Tied weights stay tied. With ``norm="batch"`` the BatchNorm layers never update a buffer: in training they use the
    statistics of the batch, in evaluation the running statistics that they are given.

    Args:
        net: the user's network, or a skeleton's.
        taps: sites whose modules get a tap.
        norm: "frozen" or "batch", as of the `Target`.
        dropout: False sets the dropout inside attention and RNNs, which no mode switches off, to 0.

    """
    skeleton = copied(net)
    for module in skeleton.modules():
        if norm == "batch" and isinstance(module, _BatchNorm):
            module.track_running_stats = False
        if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            rate = module.__dict__.setdefault(RATE, module.dropout)
            module.dropout = rate if dropout else 0.0
    pad(skeleton, net)
    for site in taps:
        add_tap(skeleton.get_submodule(site.module), site)
    return set_mode(skeleton, training=False, norm=norm, dropout=dropout)


def plain_copy(pristine: nn.Module) -> nn.Module:
    """A plain network again: a copy in eval mode with weights of its own, that ask for gradients and train as usual."""
    net = copied(pristine, cloned=[name for name, _ in pristine.named_parameters()])
    unpad(net)
    for module, original in zip(net.modules(), pristine.modules(), strict=True):
        module.training = False
        if hasattr(original, RATE):
            module.dropout = original.__dict__[RATE]
            del module.__dict__[RATE]
    return net.requires_grad_(True)


restored = plain_copy  # the former name


class _ReachedError(Exception):
    """Ends a forward as soon as the wanted module has put out."""


def activation(skeleton: nn.Module, name: str, inputs: tuple[Tensor, ...], batch: int | None) -> Tensor:
    """The output (B, ...) of module ``name`` in one unmodulated forward that stops there, batch axis first.

    Args:
        skeleton: the network.
        name: of the module; of a structure that it puts out the first tensor is taken.
        inputs: what the network takes.
        batch: the batch axis of that output, as the probe found it.

    """
    found: list[Tensor] = []

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        reached = first(output)
        if reached is not None:
            found.append(reached)
            raise _ReachedError

    handle = skeleton.get_submodule(name).register_forward_hook(stop)
    try:
        skeleton(*inputs)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    assert batch is not None
    return found[0].movedim(batch, 0)
