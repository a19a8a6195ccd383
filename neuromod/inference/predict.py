"""`predict`: unlabelled inputs of several tasks, each routed and classified."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import instance, shown
from neuromod.errors import RefusedError
from neuromod.inference.checks import check_inputs
from neuromod.inference.infer import InferenceRule, infer
from neuromod.inference.predictors import Predictor, task_scores
from neuromod.modulated import Modulated


@dataclass(frozen=True, eq=False)
class Prediction:
    """``logits`` (B, outputs) of each input under the task (B,) that was found for it."""

    logits: Tensor
    task: Tensor


def predict(model: Modulated, x: Tensor, by: InferenceRule | Predictor, **options: Any) -> Prediction:
    """Find the task of every input of a mixed batch by a rule or a predictor, and run each under its task in one forward.

    Args:
        model: with the learned tasks.
        x: inputs (B, ...), unlabelled.
        by: a rule, or a predictor that has learned the same tasks.
        options: those of `infer`, for a rule; a group of inputs that share a task then counts for all of them, and a rest that
            fills no group is left out. A predictor takes none.

    """
    if isinstance(by, InferenceRule):
        size = options.get("group", 1)
        task = infer(model, x, by, **options).task.repeat_interleave(size)
    else:
        x = check_inputs(instance(model, Modulated, "model"), x)
        if not all(callable(getattr(by, name, None)) for name in ("tasks", "class_scores")):
            raise RefusedError(
                f"by= is an InferenceRule, or a predictor that has learned the tasks; got {shown(by)}; pass one"
            )
        if options:
            raise TypeError(f"a predictor takes no options; got {sorted(options)}; drop them")
        ids = torch.tensor(by.tasks(), device=x.device)
        task = ids[task_scores(by, x).argmax(1)]
    asked = x.narrow(model.target.batch_axis, 0, len(task))
    return Prediction(model(asked, task=task), task)
