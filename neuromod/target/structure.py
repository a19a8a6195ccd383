"""Outputs of any form: the tensors inside tuples, dicts, dataclasses and caches, and the same form around other tensors."""

import copy
import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Path = tuple[str | int, ...]
"""Where a leaf stands: keys, places and names of fields, outermost first."""

LEAVES = (Tensor, nn.Module, torch.Size, torch.dtype, torch.device, enum.Enum, type)
DEEPEST = 12


def leaves(output: Any) -> Iterator[tuple[Path, Any]]:
    """Every leaf of a structure with its path, in order: tensors, and all that holds none (None, numbers, text)."""
    yield from _leaves(output, ())


def tensors(output: Any) -> dict[Path, Tensor]:
    """The tensors of a structure by path, in order."""
    return {path: leaf for path, leaf in leaves(output) if isinstance(leaf, Tensor)}


def first(output: Any) -> Tensor | None:
    """The first tensor of a structure: what a tap modulates; None where there is none."""
    if isinstance(output, Tensor):
        return output
    return next((leaf for _, leaf in leaves(output) if isinstance(leaf, Tensor)), None)


def replaced(output: Any, new: Mapping[Path, Tensor]) -> Any:
    """The same structure, of the same types, with other tensors at these paths; what it holds beside is shared."""
    return _replaced(output, (), new)


def on_first(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The structure with ``function`` applied to its first tensor."""
    if isinstance(output, Tensor):
        return function(output)
    if type(output) is tuple and output and isinstance(output[0], Tensor):
        return (function(output[0]), *output[1:])
    path, leaf = next((path, leaf) for path, leaf in leaves(output) if isinstance(leaf, Tensor))
    return replaced(output, {path: function(leaf)})


def _leaves(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    children = _children(node) if len(path) < DEEPEST else None
    if children is None:
        yield path, node
        return
    for key, child in children.items():
        yield from _leaves(child, (*path, key))


def _children(node: Any) -> dict[Any, Any] | None:
    """What a node holds by key; None of a leaf."""
    if isinstance(node, LEAVES) or node is None or callable(node):
        return None
    if isinstance(node, dict):
        return dict(node)
    if isinstance(node, tuple | list):
        return dict(enumerate(node))
    if dataclasses.is_dataclass(node):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    # A cache of keys and values, say: an object with attributes.
    return dict(vars(node)) if hasattr(node, "__dict__") else None


def _replaced(node: Any, path: Path, new: Mapping[Path, Tensor]) -> Any:
    if path in new:
        return new[path]
    children = _children(node) if len(path) < DEEPEST else None
    if children is None or not any(key[: len(path)] == path for key in new):
        return node
    moved = {key: _replaced(child, (*path, key), new) for key, child in children.items()}
    if isinstance(node, tuple):
        # A named tuple takes its fields one by one, all others a sequence.
        return type(node)(*moved.values()) if hasattr(node, "_fields") else type(node)(tuple(moved.values()))
    twin = copy.copy(node)
    if isinstance(node, list | dict):
        for key, child in moved.items():
            twin[key] = child
    else:
        for key, child in moved.items():
            object.__setattr__(twin, key, child)
    return twin
