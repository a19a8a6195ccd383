"""How a saved state meets a model: a refused load leaves it as it was, and no task is lost to a state that lacks it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from neuromod.arguments import flag, named

ID = re.compile(r"0|[1-9][0-9]{0,18}")
"""A task's id as a name in a saved state; another spelling would be a task that nobody finds again."""
Form = Mapping[str, tuple[int, ...]]
"""Shapes of a row by key."""


class Loading(nn.Module):
    """A module that loads a whole state, or nothing.

    A state that is loaded with ``strict=True`` brings its tasks: those that it lacks are dropped. With ``strict=False`` tasks join
    and none is dropped. A load that is refused, for whatever reason, leaves parameters, rows and sealed tasks as they were.
    """

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy a state into this module; missing and unexpected keys are named, as torch names them.

        Args:
            state_dict: of a module like this one, of any tasks.
            strict: whether a missing or an unexpected key is refused, and tasks that the state lacks are dropped.
            assign: as of torch.

        """
        flag(strict, "strict")
        flag(assign, "assign")
        named(state_dict, "a state that is loaded")
        with unless_refused(self):
            if strict:
                self._take_tasks(state_dict, "")
            return super().load_state_dict(state_dict, strict, assign)

    def _take_tasks(self, state: Mapping[str, Any], prefix: str) -> None:
        """Drop the tasks that a state lacks, where it holds rows of this module."""


@contextmanager
def unless_refused(module: nn.Module) -> Iterator[None]:
    """What happens to a module inside is undone if an error ends it: parts, names, and numbers in place."""
    parts = [(part, {k: _shallow(v) for k, v in part.__dict__.items()}) for part in module.modules()]
    tensors = [t for t in (*module.parameters(), *module.buffers()) if not is_lazy(t)]
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    except BaseException:
        for part, attributes in parts:
            part.__dict__.clear()
            part.__dict__.update(attributes)
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
        raise


def _shallow(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list | set) else value


def rows_in(state: Mapping[str, Any], head: str) -> dict[str, dict[str, Tensor]]:
    """Rows of a state by the name behind ``head``: ``{head}NAME.key``, or ``{head}NAME`` alone under the key ""."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith(head) and isinstance(value, Tensor):
            row, _, key = name.removeprefix(head).partition(".")
            found.setdefault(row, {})[key] = value
    return found


def fits(row: Mapping[str, Tensor], form: Form, *, resized: bool = False) -> bool:
    """Whether a row has the keys and shapes of a form.

    Args:
        row: of a state.
        form: what it should be.
        resized: the length of the first axis may be another (heads of other widths).

    """
    if set(row) != set(form):
        return False
    pairs = [(tuple(row[key].shape), shape) for key, shape in form.items()]
    return all(a == b or (resized and len(a) == len(b) > 0 and a[1:] == b[1:]) for a, b in pairs)


def settle(source: Any, sealed: Any, state: Mapping[str, Any], prefix: str, *, whole: bool) -> None:
    """Drop from a modulator what a state that is about to be loaded has elsewhere, or not at all.

    Args:
        source: live tasks.
        sealed: tasks at rest.
        state: in which the modulator's keys begin with ``prefix``.
        prefix: see above.
        whole: tasks that the state lacks are dropped too, unless it holds no row of this modulator.

    """
    live, rest = source.tasks_in(state, f"{prefix}source."), sealed.tasks_in(state, f"{prefix}sealed.")
    holds = bool(rest or live) or (live is None and any(name.startswith(f"{prefix}source.") for name in state))
    here = source.tasks() if live is not None or not whole else ()
    if whole and holds:
        gone, stays = set(here) - set(live or ()), set(rest)
    else:
        gone, stays = (set(here) & set(rest)) - set(live or ()), set(sealed.places) - set(live or ())
    for task in sorted(gone):
        source.forget(task)
    sealed.keep(stays)


def is_whole(module: nn.Module, state: Mapping[str, Any], prefix: str, spots: list[str]) -> bool:
    """Whether a state is one of this module, of whatever tasks: nothing else is missing, and nothing is strange.

    Args:
        module: with its own tasks.
        state: in which the module's keys begin with ``prefix``.
        prefix: see above.
        spots: what keys of tasks begin with.

    """
    ours = {key for key in module.state_dict(prefix=prefix, keep_vars=True) if not key.startswith(tuple(spots))}
    theirs = {key for key in state if key.startswith(prefix) and not key.startswith(tuple(spots))}
    return ours == theirs
