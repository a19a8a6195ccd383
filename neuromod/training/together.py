"""`Together`: live tasks that share nothing, trained side by side in one call."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from neuromod.arguments import instance, shown, task_ids
from neuromod.batches import run_together
from neuromod.errors import RefusedError, refusing
from neuromod.modulated import Modulated
from neuromod.refusals import refuse_unmeasured
from neuromod.sources.base import Row
from neuromod.sources.context import Context
from neuromod.sources.table import Table


class Together(nn.Module):
    """T live tasks of a model as one module: ``x`` (T, B, ...) to outputs (T, B, ...), one `torch.vmap` over tasks.

    Its parameters are the tasks' rows, stacked to (T, ...). An optimiser that works entry by entry (SGD, RMSprop, Adam) and
    the sum of the tasks' losses move each row as training that task alone does. `release` writes the rows back; until
    then the model has those it had before. Memory: T times the rows and the tensors that they modulate. Its mode is the model's, and
    statistics are those of a plain call: of each task's batch in training under ``norm="batch"``, else what `calibrate` measured.

    Refused: sources that tasks share, kinds that draw noise, tasks whose rows differ in shape, networks that `torch.vmap` can't run
    (recurrent layers, ``.item()``, a buffer that is written), and in the call tasks whose statistics nobody measured.

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
        if model.target.unmapped is not None:
            raise RefusedError(f"tasks train together in one torch.vmap; {model.target.unmapped}; train them in turn")
        for name, modulator in model.named_modulators().items():
            if type(modulator.source) is not Table or modulator.reads != "task" or modulator.noisy:
                raise RefusedError(
                    f"tasks train together where each has rows of its own and no noise; {name} does not; train them in turn"
                )
            _refuse_unknown(modulator.source.tasks() if modulator.kind.learned else modulator.tasks(), self.tasks)
            self.rows[name] = _stacked(modulator.source, self.tasks) if modulator.kind.learned else nn.Module()
        super().train(model.training)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Outputs (T, B, ...) of inputs (T, B, ...): row t under task ``tasks[t]``."""
        for x in inputs:
            shape = tuple(x.shape) if isinstance(x, Tensor) else shown(x)
            if not isinstance(x, Tensor) or shape[:1] != (len(self.tasks),):
                raise RefusedError(f"inputs have a leading axis of {len(self.tasks)} tasks; got {shape}; stack theirs")
        rows = {name: held.row() for name, held in self._held().items()} | self._measured()
        rule = "tasks that train together run in one torch.vmap; the network does not run so on these inputs"
        with refusing(rule, "pass (tasks, batch, ...) of what it takes, or call the model task by task"):
            output: Tensor = run_together(self.model.compose, self.model.skeleton, rows, inputs)
        return output

    def train(self, mode: bool = True) -> Self:
        """Set the model's mode, which is that of its tasks."""
        super().train(mode)
        self.model.train(mode)
        return self

    @torch.no_grad()
    def release(self) -> None:
        """Write the rows back into the model. Refused: tasks that were sealed or dropped meanwhile."""
        sources = {name: self.model.named_modulators()[name].source for name in self._held()}
        for source in sources.values():
            _refuse_unknown(source.tasks(), self.tasks)
        for name, held in self._held().items():
            source = sources[name]
            for position, task in enumerate(self.tasks):
                own = source.own(task)
                for key, value in held.row().items():
                    own[key].copy_(value[position])

    @torch.no_grad()
    def _measured(self) -> dict[str, Row]:
        """Rows (T, ...) of what is measured and not learned, by modulator; none where the batch itself is measured."""
        if self.model.training and self.model.target.norm == "batch":
            return {}
        refuse_unmeasured(self.model.readers("task"), Context((), 0, tasks=self.tasks))
        found: dict[str, Row] = {}
        for name, modulator in self.model.named_modulators().items():
            if not modulator.kind.learned:
                rows = [modulator(Context((), 0, tasks=(task,))).one() for task in self.tasks]
                found[name] = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        return found

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


def _refuse_unknown(known: Sequence[int], tasks: Sequence[int]) -> None:
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise RefusedError(f"a task must be live to be trained; task {unknown[0]} is not; call add({unknown[0]}) first")


def _stacked(source: Table, tasks: Sequence[int]) -> _Stacked:
    rows = [source.own(task) for task in tasks]
    if any({k: v.shape for k, v in row.items()} != {k: v.shape for k, v in rows[0].items()} for row in rows):
        raise RefusedError(
            "tasks that train together have rows of one shape; got heads of other widths; train them in turn"
        )
    return _Stacked(rows)
