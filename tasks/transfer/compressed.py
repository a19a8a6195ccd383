"""Given rows in one hypernetwork: how much smaller than the rows it may be, and what is left of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from neuromod import Hypernet, fit_rows
from tasks.config.build import call, target_of
from tasks.config.fields import Count
from tasks.errors import UserError
from tasks.experiment import Bench, Costs, Result
from tasks.report.panels import Section
from tasks.report.read import Run
from tasks.transfer import described_drawing
from tasks.transfer.described import Described, Learned


@dataclass(frozen=True, kw_only=True)
class Compressed(Described):
    """A row for each training task, trained; then hypernetworks of several sizes are fitted to the rows (`neuromod.fit_rows`).

    The headline is the mean test accuracy of the training tasks under the largest hypernetwork.

    Args:
        tasks: whose rows are given, and tested on their own tasks.
        fitting: optimizer of the fit.
        sizes: width of the hidden layer and of the embeddings of each hypernetwork.
        fit_steps: of each fit.

    """

    tasks: Count = 100
    fitting: Mapping[str, Any] = field(default_factory=lambda: {"_target_": "torch.optim.Adam", "lr": 1e-2})
    sizes: Sequence[Count] = (4, 16, 32, 64)
    fit_steps: Count = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        target_of(self.fitting, "fitting")
        if self.arm != "table" or not self.sizes or sorted(set(self.sizes)) != list(self.sizes):
            raise UserError(
                "rows of a table are compressed to sizes that grow; got "
                f"arm={self.arm} and sizes={list(self.sizes)}; pass arm=table and sizes=[4,8]"
            )

    def execute(self, bench: Bench) -> Result:
        """Train rows, fit, test; goes on from the run's checkpoint."""
        learned = self.learn(bench)
        sizes = [self._fitted(learned, size) for size in self.sizes]
        model = learned.rows().eval()
        found = {
            "sizes": sizes,
            "rows_accuracy": _mean(learned, [partial(model, task=i) for i in range(self.tasks)]),
            "rows_bytes": sum(model.bytes_per_task(i) for i in range(self.tasks)),
        }
        costs = learned.costs()
        kept = Costs(sizes[-1]["bytes"] // (4 * self.tasks), sizes[-1]["bytes"] // self.tasks, costs.parameters_shared)
        trained = f"{self.fit_steps} steps over {self.tasks} rows"
        return Result("accuracy", sizes[-1]["accuracy"], "higher", kept, {"compressed": found}, trained=trained)

    @staticmethod
    def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
        """Error and accuracy against bytes."""
        return described_drawing.compressed(runs, names)

    def _fitted(self, learned: Learned, size: int) -> dict[str, Any]:
        table, tasks = learned.modulator().source, range(self.tasks)
        model = learned.modulated(Hypernet("task", tasks, embedding=size, hidden=size))
        (modulator,) = model.named_modulators().values()
        optimizer = call(self.fitting, "fitting", model.parameters())
        error = fit_rows(modulator, [table.own(i) for i in tasks], tasks, optimizer, steps=self.fit_steps)
        accuracy = _mean(learned, [partial(model.eval(), task=i) for i in tasks])
        size_of = sum(p.numel() * p.element_size() for p in model.parameters())
        return {"size": size, "bytes": size_of, "error": error, "accuracy": accuracy}


def _mean(learned: Learned, logits: Sequence[Any]) -> float:
    """Mean test accuracy of the training tasks."""
    found = [learned.accuracy(one, task) for one, task in zip(logits, learned.training, strict=True)]
    return sum(found) / len(found)
