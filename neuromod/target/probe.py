"""What one forward of the example shows: which tensors are used, what each module puts out, which axis is the batch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from neuromod.errors import RefusedError


@dataclass(frozen=True)
class Call:
    """One call of a module, as it was seen at the example's batch size and at one more.

    Args:
        shape: of the (first) output at the example's size.
        other: of the same output at a batch of one more.

    """

    shape: tuple[int, ...]
    other: tuple[int, ...]

    @property
    def batch(self) -> int | None:
        """The one axis that follows the batch size exactly, if there is one."""
        moved = [a for a, (n, m) in enumerate(zip(self.shape, self.other, strict=True)) if n != m]
        return moved[0] if len(moved) == 1 and self.other[moved[0]] - self.shape[moved[0]] == 1 else None


@dataclass(frozen=True)
class Probe:
    """What the network does with the example: what `Target` refuses sites by, and reads axes off.

    Args:
        used: names of the tensors that the forward reads.
        calls: of every module that is called, by name, its calls in order.
        output_axes: the batch axis of every tensor of the network's output.
        order: names of the modules in the order of their first output.
        flow: pairs of modules without children of which the second reads what the first put out.
        reads: how often each tensor is read, by name.
        odd: names of modules that are not always called with one tensor alone.

    """

    used: frozenset[str]
    calls: dict[str, tuple[Call, ...]]
    output_axes: tuple[int, ...]
    order: tuple[str, ...]
    flow: tuple[tuple[str, str], ...]
    reads: Mapping[str, int]
    odd: frozenset[str]


class _Uses(TorchFunctionMode):
    """Notes every watched tensor that a torch function is given, however deep in its arguments."""

    def __init__(self, watched: dict[int, list[str]]) -> None:
        super().__init__()
        self.watched, self.seen = watched, Counter[str]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        for leaf in pytree.tree_leaves((args, kwargs or {})):
            if isinstance(leaf, Tensor):
                self.seen.update(self.watched.get(id(leaf), ()))
        return func(*args, **(kwargs or {}))


@dataclass
class _Log:
    shapes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    flow: dict[tuple[str, str], None] = field(default_factory=dict)
    # Tensors are kept beside their makers: a freed one would pass its id on to another.
    made: dict[int, tuple[str, Tensor]] = field(default_factory=dict)
    odd: set[str] = field(default_factory=set)

    def watch(self, net: nn.Module) -> list[Any]:
        def note(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                first = output[0] if isinstance(output, tuple) else output
                if len(args) != 1 or not isinstance(args[0], Tensor):
                    self.odd.add(name)
                if isinstance(first, Tensor):
                    self.shapes.setdefault(name, []).append(tuple(first.shape))
                    if not any(True for _ in module.children()):
                        if args and id(args[0]) in self.made:
                            self.flow[self.made[id(args[0])][0], name] = None
                        self.made[id(first)] = (name, first)

            return hook

        return [module.register_forward_hook(note(name)) for name, module in net.named_modules()]


def resize(inputs: tuple[Tensor, ...], axis: int) -> tuple[Tensor, ...]:
    """The same inputs with the first sample once more at the end of their batch ``axis``."""
    return tuple(torch.cat([x, x.narrow(axis, 0, 1)], axis) for x in inputs)


def probe(net: nn.Module, inputs: tuple[Tensor, ...], axis: int) -> Probe:
    """Run ``net`` at the example's batch size and at one more, without gradients, and note what it does.

    Refused: a network that can't follow the batch, calls its modules differently then, or has an output without a batch axis.

    Args:
        net: the pristine network.
        inputs: the example.
        axis: the batch axis of the inputs.

    """
    tensors = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    watched: dict[int, list[str]] = {}
    for name, tensor in tensors:
        watched.setdefault(id(tensor), []).append(name)
    first, uses, output = _run(net, inputs, watched)
    size = inputs[0].shape[axis]
    try:
        second, _, other = _run(net, resize(inputs, axis), watched)
    except RuntimeError as error:
        raise RefusedError(
            f"a target must accept any batch size; it ran at {size} and failed at {size + 1} "
            f"({str(error).splitlines()[0]}); check batch_axis={axis}"
        ) from error
    calls = {}
    for name, shapes in first.shapes.items():
        others = second.shapes.get(name, [])
        if len(shapes) != len(others) or any(len(a) != len(b) for a, b in zip(shapes, others, strict=True)):
            raise RefusedError(f"a target must call its modules alike at every batch size; {name!r} differs")
        calls[name] = tuple(Call(a, b) for a, b in zip(shapes, others, strict=True))
    return Probe(
        frozenset(uses),
        calls,
        _axes(output, other, size),
        tuple(first.shapes),
        tuple(first.flow),
        uses,
        frozenset(first.odd),
    )


def _run(
    net: nn.Module, inputs: tuple[Tensor, ...], watched: dict[int, list[str]]
) -> tuple[_Log, Counter[str], list[tuple[int, ...]]]:
    log = _Log()
    handles = log.watch(net)
    try:
        with torch.no_grad(), _Uses(watched) as uses:
            output = net(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return log, uses.seen, [tuple(t.shape) for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]


def _axes(output: list[tuple[int, ...]], other: list[tuple[int, ...]], size: int) -> tuple[int, ...]:
    axes = [Call(a, b).batch for a, b in zip(output, other, strict=True)]
    if not axes or None in axes:
        raise RefusedError(
            f"every output of a target must have one axis that follows the batch; got shapes {output} "
            f"at batch {size}; return tensors with a batch axis, or check batch_axis"
        )
    return tuple(a for a in axes if a is not None)
