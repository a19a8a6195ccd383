"""What a call of a model may not be: each mistake in one line."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from neuromod.arguments import named, one_of, shown, tensors
from neuromod.errors import RefusedError, first_line, refusing
from neuromod.modulator import Modulator
from neuromod.sources.base import Row, Rows
from neuromod.sources.context import Context
from neuromod.target.target import Target

Modulators = Mapping[str, Modulator]


def refuse_keywords(others: Mapping[str, object], rows: object, given: tuple[object, ...]) -> None:
    """Refuse keywords that no call takes, and what is given beside rows.

    Args:
        others: keywords that are none of a call's.
        rows: as of a call.
        given: task, condition and draw of the call.

    """
    if others:
        raise RefusedError(
            f"a call takes the network's inputs by position, and task=, condition=, draw= or rows=; got {next(iter(others))}=; "
            "pass inputs in order"
        )
    if rows is not None and any(part is not None for part in given):
        raise RefusedError("rows= says all that a call needs; got task, condition or draw beside it; drop them")


def check_rows(rows: Mapping[str, Rows], names: Collection[str], size: int) -> None:
    """Refuse rows that are not those of a call of this model.

    Args:
        rows: by modulator, as they were passed.
        names: of the model's modulators.
        size: samples of the batch that they are to serve.

    """
    if not isinstance(rows, Mapping) or set(rows) != set(names) or not all(isinstance(r, Rows) for r in rows.values()):
        raise RefusedError(f"rows= holds rows of every modulator by name; got {shown(rows)}; pass what rows() returned")
    wrong = [r.index for r in rows.values() if r.index is not None and r.index.ndim and len(r.index) != size]
    if wrong:
        raise RefusedError(
            f"rows= belongs to one batch; it is of {len(wrong[0])} samples, the inputs are {size}; pass rows() of them"
        )


@contextmanager
def composing(rows: Mapping[str, Row], names: Collection[str]) -> Iterator[None]:
    """Refuse rows that are none of these modulators, or that a kind inside can't compute with."""
    for name, row in named(rows, "rows that are composed").items():
        one_of(name, "the modulator of a row", names)
        tensors(row, f"the row of {name!r}", masks=True)
    with refusing("a row is what its modulator's source gives; one of these is not", "pass rows(...)[name].one()"):
        yield


def refuse_other_target(found: object, own: Tensor) -> None:
    """Refuse a state whose fingerprint, if it has one, is not that of the model's own target."""
    if found is None:
        return
    if not isinstance(found, Tensor) or found.shape != own.shape or found.dtype != own.dtype:
        raise RefusedError(
            f"a saved model has the fingerprint of its target; got {shown(found)} in its place; pass what state_dict() gave"
        )
    if not torch.equal(found.cpu(), own.cpu()):
        theirs, ours = (bytes(one.tolist()).hex()[:12] for one in (found, own))
        raise RefusedError(
            f"modulators load only on the target they were made for; theirs is {theirs}, this is {ours}; rebuild it"
        )


def refuse_unmeasured(modulators: Modulators, context: Context) -> None:
    """Refuse a call of a task whose statistics nobody has measured yet; ``modulators`` are those that read the task."""
    for modulator in modulators.values():
        for task in context.tasks or ():
            if not modulator.measured(task):
                raise RefusedError(
                    f"a task's statistics are measured before use; task {task} has none; call calibrate(model, {task}, data)"
                )


def refuse_recomputed(draw: int | None) -> None:
    """Refuse a call in a backward (a checkpoint around the whole model) that would draw its noise anew."""
    if draw is None and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
        raise RefusedError(
            "a call that is recomputed in the backward must draw the same noise again; got none of its own; pass draw=step to it"
        )


def refuse_compiled(target: Target) -> None:
    """Refuse to compile a network whose every call needs modules of its own (`Probe.fresh`)."""
    if target.probe.fresh:
        raise RefusedError(
            "a compiled network keeps nothing from call to call, and is not called again in the backward (checkpoint); this one "
            "does; switch that off in the network, or call it uncompiled"
        )


@contextmanager
def refusing_lone(*, measures: bool) -> Iterator[None]:
    """Refuse a batch in which a task has too few samples for statistics of its own; ``measures``: whether it takes them."""
    try:
        yield
    except ValueError as error:
        if not measures or "more than 1 value per channel" not in str(error):
            raise
        raise RefusedError(
            f"statistics are taken over the samples that a task has in a batch; one has too few ({first_line(error)}); give it two or "
            "more"
        ) from error
