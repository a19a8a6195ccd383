"""Modulators that read a support set: a few training images of the task, as features of the frozen network (CNAPs)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Target
from tasks.continual.learners.base import apart, into_head
from tasks.continual.learners.modulated import Modulated, call_kwargs
from tasks.continual.streams import Stream, Task
from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.runs.seeds import generator

Spec = Mapping[str, Any]
USUAL = 50


class Supported(Modulated):
    """A `Modulated` whose condition is the task's support set: what goes into the head of the frozen network, image by image.

    CNAPs (Requeima et al. 2019, section 2.2) read images by a network of their own; here the frozen one does it, and a set encoder
    averages over the images.

    Args:
        target: the frozen network.
        stream: the tasks; each gives ``support`` of its training images.
        bench: its seed ``data`` draws which.
        support: images of a set, at least 1; None: 50, or all where there are fewer.
        modulators: as of `Modulated`; a source that reads a condition gets the width of the features.

    """

    def __init__(
        self,
        target: Target,
        stream: Stream,
        bench: Bench,
        *,
        modulators: Mapping[str, Spec | None],
        support: int | None = None,
    ) -> None:
        if support is not None and support < 1:
            raise UserError(f"a support set has an image at least; got support={support}; pass 1 or more")
        sets = [_features(target, task, support, bench) for task in stream]
        if not sets:
            raise UserError(
                "support sets are drawn from tasks that are known; got none; pass run=sequence or run=joint"
            )
        named = {name: _reading(spec, sets[0].shape[1]) for name, spec in modulators.items()}
        super().__init__(target, stream, bench, modulators=named)
        self.sets = nn.Module()
        for number, features in enumerate(sets):
            self.sets.register_buffer(str(number), features, persistent=False)

    def forward(self, x: Tensor, task: int | Tensor, condition: int | Tensor | None = None) -> Tensor:
        """Logits (B, outputs) of inputs (B, ...).

        Args:
            x: inputs.
            task: one id, or int64 (B,).
            condition: nothing else than the support set, so None.

        """
        if condition is not None:
            raise UserError(
                f"modulators with support sets are conditioned on these; got condition={condition}; pass none"
            )
        return apart(self._one, x, task)

    def _one(self, x: Tensor, task: int) -> Tensor:
        logits: Tensor = self.model(x, **call_kwargs(self.model, task) | {"condition": self.condition(task)})
        return logits

    def condition(self, task: int) -> int | Tensor | None:
        """The support set of a task (images, features)."""
        return self.sets.get_buffer(str(task))


def _reading(spec: Spec | None, width: int) -> Spec | None:
    if spec is None or spec["source"].get("reads") != "condition":
        return spec
    return {**spec, "source": {**spec["source"], "embedding": [None, width]}}


@torch.no_grad()
def _features(target: Target, task: Task, support: int | None, bench: Bench) -> Tensor:
    """What goes into the head, for some training images (support, features), of the root mean square 1."""
    order = torch.randperm(len(task.train), generator=generator(bench.seeds["data"], "support", task.name))
    support = min(USUAL, len(order)) if support is None else support
    if len(order) < support:
        raise UserError(
            f"a support set is drawn from a task's training images; got support={support} of {len(order)}; pass fewer"
        )
    batches = map(task.view, task.train.images[order[:support]].split(100))
    features = into_head(target.pristine, target.head()[0].module, batches).flatten(0, -2)
    return features / features.square().mean().sqrt()
