"""Which modules of a skeleton leave eval mode, and which of a network draw at random in training."""

import random
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.overrides import TorchFunctionMode

from neuromod.errors import RefusedError, refusing
from neuromod.seeds import preserved
from neuromod.target.copying import copied, state_of

ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)


def set_mode(
    skeleton: nn.Module, *, training: bool, norm: str, dropout: bool, draws: Collection[str] = ()
) -> nn.Module:
    """Eval mode for all but what torch's own modules need, BatchNorm under ``norm="batch"``, and dropout on request.

    torch's own attention stays in train mode, without dropout, because in eval mode its fused path has no derivative and runs
    none of the submodules that a tap sits on; its own RNNs follow, for cuDNN's backward needs it. A subclass of these, or one
    with hooks, may do more in train mode than torch's own, so it stays in eval mode. Returns the network.

    Args:
        skeleton: the network, as `skeleton.build` made it.
        training: the mode that what follows takes.
        norm: "frozen" or "batch", as of the `Target`.
        dropout: whether dropout follows.
        draws: names of the modules that draw at random in training (`drawing`).

    """
    skeleton.eval()
    for name, module in skeleton.named_modules():
        follows = (
            (norm == "batch" and isinstance(module, _BatchNorm))
            or (dropout and name in draws)
            or _is_own(module, RECURRENT)
        )
        attends = _is_own(module, ATTENTION) and (training or not dropout)
        module.training = attends or (training and follows)
    return skeleton


def _is_own(module: nn.Module, types: tuple[type, ...]) -> bool:
    # The hooks of old-style spectral_norm and their kind ask for the mode.
    return type(module) in types and not module._forward_pre_hooks


class _Draws(TorchFunctionMode):
    """Notes in which module a global generator moves, and in which statistics of the batch are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = [""]
        self.found: set[str] = set()
        self.normed: set[str] = set()
        self.state = _generators()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (F.batch_norm, torch.batch_norm) and (kwargs or {}).get("training", [*args, False][5:6] == [True]):
            self.normed.add(self.stack[-1])
        self.look()
        return result

    def look(self) -> None:
        """Give what has been drawn since the last look to the module that runs."""
        with torch._C.DisableTorchFunction():
            now = _generators()
        if now != self.state:
            self.found.add(self.stack[-1])
            self.state = now


def drawing(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[frozenset[str], bool]:
    """Names of the modules that draw at random in training: dropout of any make, stochastic depth, LayerDrop.

    And whether the network keeps something of such a forward (a mean of noise, a count of steps).

    Found in one forward in train mode (norms stay in eval mode) by the global generators: whose forward moves them, without its
    submodules. Refused: a network that does not run so, and a module that draws and takes statistics of the batch.

    Args:
        net: the pristine network; a copy runs.
        inputs: the example.

    """
    twin = copied(net).train()
    for module in twin.modules():
        module.training = not isinstance(module, _NormBase)
        rate = module.__dict__.get(RATE)
        if rate is not None:
            module.dropout = rate
    draws = _Draws()

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            draws.look()
            draws.stack.append(name)

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        draws.look()
        draws.stack.pop()

    for name, module in twin.named_modules():
        module.register_forward_pre_hook(enter(name), prepend=True)
        module.register_forward_hook(leave)
    before = state_of(twin)
    rule = f"dropout=True runs the network in train mode, norms apart; {type(net).__name__} does not run so"
    with refusing(rule, "drop dropout=True"), preserved(0), torch.no_grad():
        draws.state = _generators()
        with draws:
            twin(*(x.clone() for x in inputs))
    both = draws.found & draws.normed
    if both:
        raise RefusedError(
            f"dropout=True leaves no norm on statistics of the batch; {sorted(both)[0]!r} draws and normalises in train mode; give it "
            "an nn.BatchNorm module, or drop dropout=True"
        )
    return frozenset(draws.found), state_of(twin) != before


RATE = "neuromod_dropout"
"""Where a module's own rate of dropout is kept while it is set to 0."""


def _generators() -> tuple[Any, ...]:
    cuda = [g.get_state().cpu().numpy().tobytes() for g in torch.cuda.default_generators if torch.cuda.is_initialized()]
    state = np.random.get_state()
    numbers = (state[1].tobytes(), state[2])  # type: ignore[index]
    return torch.get_rng_state().numpy().tobytes(), tuple(cuda), numbers, random.getstate()
