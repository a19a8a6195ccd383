"""Connections that a network never had: from the output of one module to the input of a later one, at weight 0."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from neuromod.arguments import instance, shown
from neuromod.errors import ExampleError, RefusedError, nearest, refusing


class _Heard:
    """What the earlier module put out in this forward, until the later one has read it."""

    value: Tensor | None = None


def connect(net: nn.Module, source: str, reader: str, example: Tensor) -> nn.Module:
    """A copy of a network in which ``reader`` may also read what ``source`` puts out, ``x' = x + V h``, with V = 0.

    V is a parameter ``weight_from_SOURCE`` of the reader, of shape (channels in, channels out of the source), and a weight of a
    `Target` like any other: any kind on weights acts on it, `Wires` grow in it. At V = 0 the outputs are those of ``net``, to the bit.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> wired = connect(net, "0", "4", torch.ones(1, 3))
    >>> wired[4].weight_from_0.shape
    torch.Size([4, 4])

    Args:
        net: a plain network; it is not changed.
        source: name of a module that is called once, before the reader, and puts out a tensor.
        reader: name of a module that is called once, with one tensor: of a convolution channels are axis 1, else the last. All
            other axes must be those of the source's output.
        example: an input of the network, run once to see the shapes.

    """
    wired = copy.deepcopy(instance(net, nn.Module, "the network that is connected"))
    modules = dict(wired.named_modules())
    for name in (source, reader):
        if not isinstance(name, str) or not name or name not in modules:
            raise RefusedError(
                f"a connection joins two modules by name; got {shown(name)}; nearest: {nearest(shown(name), modules)}"
            )
    leaf, heard = f"weight_from_{source.replace('.', '_')}", _Heard()
    late, axis = modules[reader], 1 if isinstance(modules[reader], _ConvNd) else -1
    if hasattr(late, leaf):
        raise RefusedError(
            f"two modules are joined once; {source!r} and {reader!r} are already; wires grow in {leaf!r}"
        )
    # Of a copy: a forward in train mode moves running statistics, and draws.
    rows, columns, like = _sizes(copy.deepcopy(wired).eval(), (source, reader), axis, example)
    late.register_parameter(leaf, nn.Parameter(like.new_zeros(rows, columns)))
    modules[source].register_forward_hook(partial(_hear, heard))
    late.register_forward_pre_hook(partial(_add, heard, leaf, axis))
    return wired


def _sizes(net: nn.Module, names: tuple[str, str], axis: int, example: Tensor) -> tuple[int, int, Tensor]:
    """Channels that go into the later module and come out of the earlier one, and a tensor like theirs.

    Args:
        net: a network of which nothing is kept.
        names: of the two modules.
        axis: of the channels.
        example: an input of the network.

    """
    calls: list[tuple[str, Any]] = []
    early, late = (net.get_submodule(name) for name in names)
    early.register_forward_hook(lambda m, args, output: calls.append(("source", output)))
    late.register_forward_pre_hook(lambda m, args: calls.append(("reader", args)))
    with torch.no_grad(), refusing("a network runs on its example; this one does not", "correct it", ExampleError):
        net(example)
    if [end for end, _ in calls] != ["source", "reader"]:
        order = ", ".join(names[end == "reader"] for end, _ in calls) or "neither"
        raise RefusedError(
            f"a connection leads from a module that is called once to a later one; got {names[0]!r} to {names[1]!r}, called: "
            f"{order}; choose others"
        )
    (_, h), (_, args) = calls
    if len(args) != 1 or not isinstance(args[0], Tensor) or not isinstance(h, Tensor):
        raise RefusedError(
            f"a connection leads from one tensor to another; {names[0]!r} or {names[1]!r} has others; choose others"
        )
    (x,) = args
    if x.ndim != h.ndim or _others(x, axis) != _others(h, axis):
        raise RefusedError(
            f"a connection keeps all axes but the channels; {names[0]!r} puts out {tuple(h.shape)} and {names[1]!r} takes "
            f"{tuple(x.shape)}; choose modules of one layout"
        )
    return x.shape[axis], h.shape[axis], x


def _others(x: Tensor, axis: int) -> list[int]:
    shape = list(x.shape)
    del shape[axis]
    return shape


def _hear(heard: _Heard, module: nn.Module, args: Any, output: Tensor) -> None:
    heard.value = output


def _add(heard: _Heard, leaf: str, axis: int, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
    h, heard.value = heard.value, None
    if h is None:
        raise RefusedError(
            f"a connected module reads what its source put out in the same forward; got a call of it alone, or a second one, at "
            f"{leaf!r}; call the whole network, and no part of it inside a checkpoint"
        )
    (x,) = args
    added = nn.functional.linear(h.movedim(axis, -1), getattr(module, leaf)).movedim(-1, axis)
    return (x + added.to(x.dtype),)
