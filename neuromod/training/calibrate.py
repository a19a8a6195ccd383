"""Measure a task's norm statistics: what `Statistics` keeps."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from neuromod.arguments import instance, shown, task_id
from neuromod.batches import run
from neuromod.errors import RefusedError, refusing
from neuromod.modulated import Modulated
from neuromod.sources.base import Row


@torch.no_grad()
def calibrate(
    model: Modulated,
    task: int,
    data: Tensor | Iterable[Tensor | tuple[Tensor, ...]],
    *,
    condition: int | Tensor | None = None,
) -> None:
    """Measure the statistics of norms of a task: cumulative mean and unbiased variance over the batches of ``data``.

    It fills the task's `Statistics`, without which ``norm="batch"`` refuses to evaluate the task. Each batch is modulated as the
    task is, with the statistics of that batch, like PyTorch's ``momentum=None``. Refused: a model without `Statistics`, and no batch.

    Args:
        model: with a modulator of the kind `Statistics`.
        task: a live task.
        data: one batch of inputs, or an iterable of batches (of tuples too; what follows the inputs is ignored).
        condition: as of a call, where one is read.

    """
    instance(model, Modulated, "the model that is calibrated")
    task = task_id(task)
    keepers = [m for m in model.named_modulators().values() if not m.kind.learned]
    if not keepers:
        raise RefusedError("calibrate fills Statistics; the model has none; add Modulator(Statistics(), ...)")
    norms = {n: m for n, m in model.skeleton.net.named_modules() if isinstance(m, _BatchNorm)}
    fresh: dict[str, Tensor] = {}
    for name, norm in norms.items():
        fresh |= {f"{name}.{leaf}": torch.zeros_like(value) for leaf, value in norm.named_buffers(recurse=False)}
    before = {name: (m.training, m.track_running_stats, m.momentum) for name, m in norms.items()}
    batches = 0
    try:
        for norm in norms.values():
            norm.training, norm.track_running_stats, norm.momentum = True, True, None
        for batch in batches_of(data):
            with refusing("a batch is what the network takes; it does not take this one", "pass the task's inputs"):
                inputs = (batch,) if isinstance(batch, Tensor) else tuple(batch)[: len(model.target.example)]
                _forward(model, inputs, task, condition, fresh)
            batches += 1
    finally:
        for name, norm in norms.items():
            norm.training, norm.track_running_stats, norm.momentum = before[name]
    if not batches:
        raise RefusedError(f"calibrate needs at least one batch; got none for task {task}; pass the task's inputs")
    for keeper in keepers:
        keeper.measure(task, fresh)


def batches_of(data: Any) -> Iterable[Any]:
    """One batch, or an iterable of batches. Refused: what is neither."""
    if isinstance(data, Tensor):
        return [data]
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | dict):
        raise RefusedError(f"calibrate takes a batch of inputs or an iterable of batches; got {shown(data)}; pass data")
    return data


def _forward(
    model: Modulated,
    inputs: tuple[Tensor, ...],
    task: int,
    condition: int | Tensor | None,
    buffers: Mapping[str, Tensor],
) -> None:
    """One forward of a task that updates ``buffers`` in place as its norms do in training."""
    learned = {n: m for n, m in model.named_modulators().items() if m.kind.learned}
    context = model.context(inputs, task, condition)
    parts = [(modulator(context), model.gathers[name]) for name, modulator in learned.items()]

    def one(rows: list[Row], x: tuple[Tensor, ...]) -> Any:
        edits = model.compose(dict(zip(learned, rows, strict=True)))
        return model.skeleton({**edits, **buffers}, x)

    run(one, parts, inputs, model.target.axes, model.target.probe.outputs, again=False)
