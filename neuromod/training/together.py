"""`Together`: live tasks that share nothing, trained side by side in one call."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuromod.arguments import instance, task_ids
from neuromod.batches import run_together
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.sources.base import Row
from neuromod.sources.table import Table


class Together(nn.Module):
    """T live tasks of a model as one module: ``x`` (T, B, ...) to outputs (T, B, ...), one `torch.vmap` over tasks.

    Its parameters are the tasks' rows, stacked to (T, ...). An optimiser that works entry by entry (SGD, RMSprop, Adam) and
    the sum of the tasks' losses move each row as training that task alone does. `release` writes the rows back; until
    then the model has those it had before. Memory: T times the rows and the tensors that they modulate.

    Refused: sources that tasks share, kinds that draw noise, tasks whose rows differ in shape.

    Args:
        model: modulators that read the task come from a `Table`; those of one row for all are refused if they learn.
        tasks: live tasks, each once.

    """

    model: Modulated

    def __init__(self, model: Modulated, tasks: Sequence[int]) -> None:
        super().__init__()
        instance(model, Modulated, "the model whose tasks train together")
        self.tasks = task_ids(tasks)
        self.__dict__["model"] = model
        self.rows = nn.ModuleDict()
        if not self.tasks:
            raise RefusedError("tasks that train together are one at least; got none; pass their ids")
        for name, modulator in model.named_modulators().items():
            if type(modulator.source) is not Table or modulator.reads != "task" or modulator.noisy:
                raise RefusedError(
                    f"tasks train together where each has rows of its own and no noise; {name} does not; train them in turn"
                )
            self.rows[name] = _stacked(modulator.source, self.tasks) if modulator.kind.learned else nn.Module()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Outputs (T, B, ...) of inputs (T, B, ...): row t under task ``tasks[t]``."""
        wrong = [x for x in inputs if len(x) != len(self.tasks)]
        if wrong:
            raise RefusedError(f"inputs have a leading axis of {len(self.tasks)} tasks; got {tuple(wrong[0].shape)}")
        output: Tensor = run_together(
            self.model.compose, self.model.skeleton, {name: held.row() for name, held in self._held().items()}, inputs
        )
        return output

    @torch.no_grad()
    def release(self) -> None:
        """Write the rows back into the model."""
        for name, held in self._held().items():
            source = self.model.named_modulators()[name].source
            for position, task in enumerate(self.tasks):
                own = source.own(task)
                for key, value in held.row().items():
                    own[key].copy_(value[position])

    def _held(self) -> dict[str, "_Stacked"]:
        return {name: held for name, held in self.rows.items() if isinstance(held, _Stacked)}


class _Stacked(nn.Module):
    """The rows of several tasks, one parameter (T, ...) for each tensor of a row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        for key in rows[0]:
            self.register_parameter(key, nn.Parameter(torch.stack([row[key].detach() for row in rows])))

    def row(self) -> Row:
        return {key: value for key, value in self._parameters.items() if value is not None}


def _stacked(source: Table, tasks: Sequence[int]) -> _Stacked:
    unknown = [task for task in tasks if task not in source.tasks()]
    if unknown:
        raise RefusedError(f"a task must be live to be trained; task {unknown[0]} is not; call add({unknown[0]}) first")
    rows = [source.own(task) for task in tasks]
    if any({k: v.shape for k, v in row.items()} != {k: v.shape for k, v in rows[0].items()} for row in rows):
        raise RefusedError(
            "tasks that train together have rows of one shape; got heads of other widths; train them in turn"
        )
    return _Stacked(rows)
