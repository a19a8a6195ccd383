"""A head alone over a frozen network: what goes into it is computed once per image, not once per step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import linear

from neuromod import Site, Target, bake, calibrate
from tasks.continual.learners.base import apart, into_head, sample
from tasks.continual.learners.modulated import Modulated
from tasks.continual.streams import Split, Stream, Task
from tasks.errors import UserError
from tasks.experiment import Bench

PART = 500
"""Images per forward while features are computed."""


@dataclass(frozen=True, eq=False)
class AsTheyAre:
    """The view of features (B, F): none."""

    def __call__(self, images: Tensor) -> Tensor:
        """What is given."""
        return images

    def picture(self, values: Tensor) -> Tensor:
        """What is given."""
        return values

    def to(self, device: torch.device | str) -> Self:
        """The same."""
        return self


class Probed(Modulated):
    """A `Modulated` of a head, and perhaps of statistics that are measured: it is trained on features of each task, `trained_on`.

    Statistics are measured before the training, so that features stand still: what is trained is what is tested.

    Args:
        target: the frozen network.
        stream: the tasks.
        bench: as of `Modulated`.
        modulators: as of `Modulated`; UserError for others than a head from a table, and for none.

    """

    def __init__(
        self, target: Target, stream: Stream, bench: Bench, *, modulators: Mapping[str, Mapping[str, Any] | None]
    ) -> None:
        super().__init__(target, stream, bench, modulators=modulators)
        named = self.model.named_modulators()
        learned = {name: m for name, m in named.items() if m.kind.learned}
        heads = [m for m in learned.values() if m.kind.own_width and m.reads == "task" and m.kind.alone]
        if len(heads) != 1 or len(learned) > 1:
            raise UserError(
                f"features are computed once where a head alone is learned; got {', '.join(learned)}; pass learner=modulated"
            )
        if not len(stream):
            raise UserError("features are those of tasks that are known; got none; pass run=sequence or run=joint")
        self.head = heads[0]
        self.site: Site = self.head.sites[0]

    def trained_on(self, stream: Stream) -> Stream:
        """Each task with features (N, F) in the place of its training images."""
        return replace(stream, tasks=tuple(self._features(number, task) for number, task in enumerate(stream)))

    def forward(self, x: Tensor, task: int | Tensor, condition: int | Tensor | None = None) -> Tensor:
        """Logits (B, outputs): while it is trained of features (B, F), else of inputs (B, ...).

        Args:
            x: either.
            task: one id, or int64 (B,).
            condition: as of `Modulated`.

        """
        if not self.training:
            return super().forward(x, task, condition)
        if x.shape[1:] != (self.site.fan_in,):
            raise UserError(
                f"a head is trained on features (B, {self.site.fan_in}); got {tuple(x.shape)}; pass run=sequence or run=joint"
            )
        return apart(self._read, x, task)

    def after_task(self, number: int, task: Task) -> None:
        """Nothing: statistics are measured already."""

    def _read(self, features: Tensor, task: int) -> Tensor:
        values = {key.rpartition("/")[2]: value for key, value in self.head.source.own(task).items()}
        logits: Tensor = linear(features, values["weight"], values.get("bias"))
        return logits

    @torch.no_grad()
    def _features(self, number: int, task: Task) -> Task:
        if self.measures:
            calibrate(self.model, number, sample(task), condition=self.condition(number))
        batches = map(task.view, task.train.images.split(PART))
        found = into_head(bake(self.model.eval(), task=number), self.site.module, batches)
        return replace(task, train=Split(found, task.train.labels), view=AsTheyAre())
