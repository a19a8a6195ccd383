"""Which tensors a forward reads and writes: its own, and those that it has no business with."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from neuromod.errors import RefusedError

FORM = ("__get__", "size", "dim", "numel", "stride", "is_floating_point", "is_complex", "is_contiguous", "element_size")
"""Functions of torch that read the form of a tensor and not its numbers."""
VALUES = tuple(getattr(Tensor, name).__get__ for name in ("data", "T", "mT", "H", "mH", "real", "imag"))
"""Attributes of a tensor that are its numbers."""


class Uses(TorchFunctionMode):
    """Notes every watched tensor that a torch function is given, however deep in its arguments."""

    def __init__(self, watched: Mapping[int, list[str]]) -> None:
        super().__init__()
        self.watched, self.seen = watched, Counter[str]()
        self.outside: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") not in FORM or func in VALUES:
            for leaf in pytree.tree_leaves((args, kwargs or {})):
                if isinstance(leaf, Tensor):
                    self.see(leaf)
        return func(*args, **(kwargs or {}))

    def see(self, tensor: Tensor) -> None:
        """Note a tensor, and parameters that are none of the network's modules'."""
        names = self.watched.get(id(tensor))
        if names is not None:
            self.seen.update(names)
        elif tensor.is_leaf and (tensor.requires_grad or isinstance(tensor, nn.Parameter)):
            self.outside[id(tensor)] = tensor


class WrittenError(BaseException):
    """Ends a forward in front of an operation that would write into a parameter; no error that a network may catch."""


class Guard(TorchDispatchMode):
    """Stops an operation before it writes into storage that is the user's."""

    def __init__(self, own: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places = {t.untyped_storage().data_ptr(): name for name, t in own.items() if t.numel()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            for tensor in pytree.tree_leaves(given):
                if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                    name = self.places.get(tensor.untyped_storage().data_ptr())
                    if name is not None:
                        raise WrittenError(name)
        return func(*args, **kwargs)


def refuse_reached(net: nn.Module, outside: Mapping[int, Tensor]) -> None:
    """Refuse a network that reaches a tensor of its own past its modules: there it would run unmodulated."""
    places = {p.untyped_storage().data_ptr(): name for name, p in net.named_parameters() if p.numel()}
    for tensor in outside.values():
        name = places.get(tensor.untyped_storage().data_ptr())
        if name is not None:
            raise RefusedError(
                f"a network reaches its tensors through its modules; {name!r} is read past them (a closure, a weak reference, a cached "
                "method), where no modulation acts; read it off self"
            )


@contextmanager
def unmoved(outside: Iterable[Tensor]) -> Iterator[None]:
    """Gradients of tensors outside the network as they were, afterwards."""
    kept = [(tensor, tensor.grad) for tensor in outside]
    for tensor, _ in kept:
        tensor.grad = None
    try:
        yield
    finally:
        for tensor, grad in kept:
            tensor.grad = grad
