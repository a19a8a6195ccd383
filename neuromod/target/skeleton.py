"""The skeleton: a private copy of the user's network that shares its parameters, clones its buffers and carries taps."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from neuromod.errors import RefusedError, nearest
from neuromod.target.probe import Call
from neuromod.target.sites import Site
from neuromod.target.substitute import Anatomy, Edits, anatomy_of, call, fold, put
from neuromod.target.taps import add_tap

RATE = "neuromod_dropout"
ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
DERIVED = ("tensors", "_anatomy")


class Skeleton:
    """The network that runs: `Target.skeleton` makes one for each `Modulated`, which shows it as ``model.skeleton``.

    It is no `nn.Module`, so that its frozen tensors are neither parameters nor state of the model that holds it. A copy
    (`copy.deepcopy`) shares the parameters and has buffers of its own.

    Args:
        net: the network to copy; its parameters share storage with the copy's, its buffers are cloned.
        taps: sites whose modules get a tap, in place before anything can be compiled.
        calls: of every module that the forward calls, by name, what it puts out (`Probe.calls`).
        norm: "frozen" or "batch", as of the `Target`.
        dropout: whether dropout follows `train`, as of the `Target`.

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
        calls: Mapping[str, tuple[Call, ...]],
        norm: str = "frozen",
        dropout: bool = False,
    ) -> None:
        self.net = build(net, taps, norm=norm, dropout=dropout)
        self.calls, self.norm, self.dropout = calls, norm, dropout
        self._read()

    def __call__(self, edits: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
        """The network's output with ``edits`` in the place of its tensors; taps fold first where that is exact.

        Args:
            edits: tensors by name, of the shape of what they replace; a tap may have a row per sample, (B, channels).
            inputs: what the network takes, the batch on the target's axis.

        """
        return call(self.net, edits, inputs, self._anatomy)

    def fold(self, edits: Mapping[str, Tensor]) -> Edits:
        """The same edits with every one-row tap moved into its layer's weight and bias, where that is exact."""
        return fold(self.net, edits, self._anatomy.folds)

    def put(self, folded: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
        """The output at edits that `fold` returned (inside a `torch.vmap` over samples, say)."""
        return put(self.net, folded, inputs, self._anatomy)

    def activation(self, name: str, inputs: tuple[Tensor, ...]) -> Tensor:
        """The output (B, ...) of module ``name`` in one unmodulated forward that stops there, batch axis first.

        Refused: a module that the forward does not call, and one whose output folds the batch into another axis.
        """
        if name not in self.calls:
            raise RefusedError(
                f"activation:NAME needs a module that the forward calls; got {name!r}; try {nearest(name, self.calls)}"
            )
        return activation(self.net, name, inputs, self.calls[name][0].batch)

    def layer(self, name: str) -> nn.Module:
        """The module of that name (hooks on it must be removed again)."""
        return self.net.get_submodule(name)

    def train(self, mode: bool = True) -> None:
        """Eval mode for all but BatchNorm under ``norm="batch"``, requested dropout, and RNNs: these follow ``mode``."""
        set_mode(self.net, training=mode, norm=self.norm, dropout=self.dropout)

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Map every tensor, as `nn.Module.to` does with a change of device or dtype."""
        self.net._apply(fn)
        self._read()

    def _read(self) -> None:
        net = self.net
        self.tensors = dict(net.named_parameters(remove_duplicate=False)) | dict(
            net.named_buffers(remove_duplicate=False)
        )
        self._anatomy: Anatomy = anatomy_of(net)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Skeleton":
        return Skeleton(self.net, calls=self.calls, norm=self.norm, dropout=self.dropout)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._read()


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
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in net.parameters()}
    skeleton = copy.deepcopy(net, memo)
    for module in skeleton.modules():
        if norm == "batch" and isinstance(module, _BatchNorm):
            module.track_running_stats = False
        if not dropout and isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.__dict__.setdefault(RATE, module.dropout)
            module.dropout = 0.0
    for site in taps:
        add_tap(skeleton.get_submodule(site.module), site)
    return set_mode(skeleton, training=False, norm=norm, dropout=dropout)


def plain_copy(pristine: nn.Module) -> nn.Module:
    """A plain network again: a copy in eval mode with weights of its own, that ask for gradients and train as usual."""
    net = copy.deepcopy(pristine)
    for module, original in zip(net.modules(), pristine.modules(), strict=True):
        module.training = False
        if hasattr(original, RATE):
            module.dropout = original.__dict__[RATE]
            del module.__dict__[RATE]
    return net.requires_grad_(True)


restored = plain_copy  # the former name


def set_mode(skeleton: nn.Module, *, training: bool, norm: str, dropout: bool) -> nn.Module:
    """Eval mode for all but: BatchNorm under ``norm="batch"``, dropout on request, RNNs (cuDNN's backward needs it).

    Attention stays in train mode, without dropout, because in eval mode its fused path has no derivative and runs
    none of the submodules that a tap sits on. Returns the network.

    Args:
        skeleton: the network, as `build` made it.
        training: the mode that what follows takes.
        norm: "frozen" or "batch", as of the `Target`.
        dropout: whether dropout follows.

    """
    skeleton.eval()
    for module in skeleton.modules():
        follows = (
            (norm == "batch" and isinstance(module, _BatchNorm))
            or (dropout and isinstance(module, _DropoutNd))
            or isinstance(module, nn.RNNBase)
        )
        attends = isinstance(module, ATTENTION) and (training or not dropout)
        module.training = attends or (training and follows)
    return skeleton


class _ReachedError(Exception):
    """Ends a forward as soon as the wanted module has put out."""


def activation(skeleton: nn.Module, name: str, inputs: tuple[Tensor, ...], batch: int | None) -> Tensor:
    """The output (B, ...) of module ``name`` in one unmodulated forward that stops there, batch axis first.

    Refused: an output that folds the batch into another axis.

    Args:
        skeleton: the network.
        name: of the module; of a tuple that it puts out the first element is taken.
        inputs: what the network takes.
        batch: the batch axis of that output, as the probe found it; None where there is none.

    """
    found: list[Tensor] = []

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise _ReachedError

    handle = skeleton.get_submodule(name).register_forward_hook(stop)
    try:
        skeleton(*inputs)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    if batch is None:
        raise RefusedError(
            f"an embedding is read from an output whose batch axis is known; {name!r} folds the batch; pick another module"
        )
    return found[0].movedim(batch, 0)
