"""Copies of a network: its modules anew, its parameters shared, whatever it holds beside them its own."""

import copy
import hashlib
import random
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from neuromod.errors import RefusedError, refusing

WRAPPERS = (nn.DataParallel, DistributedDataParallel)
DEEPEST = 6


def tensors_of(net: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, tied ones under each of their names."""
    return dict(net.named_parameters(remove_duplicate=False)) | dict(net.named_buffers(remove_duplicate=False))


def refuse_foreign(net: nn.Module) -> None:
    """Refuse what is no plain network of modules and dense tensors: wrappers, scripts, lazy layers, sparse tensors."""
    if not isinstance(net, nn.Module):
        raise RefusedError(f"a target is an nn.Module; got {type(net).__name__}; pass the network itself")
    for name, module in net.named_modules():
        shown = repr(name) if name else "the network"
        if isinstance(module, WRAPPERS):
            raise RefusedError(f"a target is not wrapped; {shown} is a {type(module).__name__}; pass its .module")
        if isinstance(module, torch.jit.ScriptModule):
            raise RefusedError(
                f"a target is made of Python modules; {shown} is a script; pass the network before torch.jit"
            )
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise RefusedError(
                f"a BatchNorm must keep running statistics; {shown} has track_running_stats=False; switch it on and pass "
                "norm='batch' to train on batch statistics"
            )
    for name, tensor in tensors_of(net).items():
        if is_lazy(tensor):
            raise RefusedError(f"a target has its weights; {name!r} is not made yet; run the lazy network once before")
        if tensor.layout is not torch.strided or tensor.is_quantized:
            kind = "quantized" if tensor.is_quantized else str(tensor.layout)
            raise RefusedError(
                f"tensors of a target are dense; {name!r} is {kind}; keep it outside, or call to_dense()"
            )
        if tensor.is_inference():
            raise RefusedError(
                f"a target's tensors take part in gradients; {name!r} was made in inference_mode; make the network outside"
            )
        if tensor.is_meta:
            raise RefusedError(f"a target has its weights; {name!r} lies on the device 'meta'; load the network first")


def copied(net: nn.Module, *, cloned: Collection[str] = (), trained: bool = False) -> nn.Module:
    """A copy of the modules: parameters share storage, buffers and all else are clones, ties stay ties.

    Tensors that the network or its hooks keep from an earlier forward are copied without their graph.

    Args:
        net: the network.
        cloned: names of parameters that get storage of their own, for the forward writes into them.
        trained: whether parameters ask for gradients.

    """
    memo: dict[int, Any] = {}
    for name, p in net.named_parameters(remove_duplicate=False):
        data = p.detach().clone() if name in cloned else p.detach()
        asks = trained and (p.is_floating_point() or p.is_complex())
        if id(p) not in memo or name in cloned:
            memo[id(p)] = nn.Parameter(data, requires_grad=asks)
    for module in net.modules():
        for tensor in _kept(_beside(module), DEEPEST, set()):
            memo.setdefault(id(tensor), tensor.detach().clone())
    rule = f"a target runs on copies of the network; a {type(net).__name__} holds what has no copy"
    with refusing(rule, "keep locks, files, pools and modules of Python outside of it"):
        return copy.deepcopy(net, memo)


def _beside(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in module.__dict__.items() if k not in ("_parameters", "_modules")}


def _kept(value: Any, depth: int, seen: set[int]) -> Iterator[Tensor]:
    """Tensors with a graph (which `copy.deepcopy` refuses) that an attribute holds, however deep."""
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            yield value
        return
    if depth == 0 or id(value) in seen or isinstance(value, nn.Module | type | str | bytes | int | float):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list | tuple | set):
        inner = list(value)
    else:
        inner = list(getattr(value, "__dict__", {}).values())
    for item in inner:
        yield from _kept(item, depth - 1, seen)


def state_of(net: nn.Module) -> list[Any]:
    """What a forward may leave behind in modules, attributes and buffers, to be compared before and after one."""
    return [_snapshot(_beside(module), DEEPEST) for module in net.modules()]


def _snapshot(value: Any, depth: int) -> Any:
    """A value that differs where the object holds something else; what is too deep, or opaque, is its identity."""
    if isinstance(value, Tensor):
        return id(value), value.is_inference() or value._version, _content(value)
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes()
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, int | float | str | bytes | bool | type(None)):
        return value
    if depth == 0 or isinstance(value, nn.Module | type) or callable(value):
        return id(value)
    if isinstance(value, dict):
        return [(key, _snapshot(item, depth - 1)) for key, item in value.items()]
    if isinstance(value, list | tuple | set | deque):
        return [_snapshot(item, depth - 1) for item in value]
    return id(value), [(key, _snapshot(item, depth - 1)) for key, item in getattr(value, "__dict__", {}).items()]


def _content(value: Tensor) -> bytes:
    # By its bytes, for `.data` and numpy write without a new version.
    return hashlib.sha256(_bytes(value)).digest()


def _bytes(value: Tensor) -> memoryview:
    dense = value.detach() if value.layout is torch.strided else value.detach().to_dense()
    return dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


@torch.no_grad()
def digest_of(net: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters and buffers; those of lazy layers have no bytes yet."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors_of(net).items()):
        if not is_lazy(tensor):
            digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()
