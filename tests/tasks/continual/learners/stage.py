"""What tests of learners share: a tiny config, learners by name, and steps as the loop takes them."""

from typing import Any

import torch
from torch import Tensor

from tasks.continual.learners import BatchEnsemble, Dense, Nothing, OnlineEwc, Psp, Separate
from tests.tasks.setup import bench

TINY = ["experiment=baselines/base", "data=tiny", "target.kwargs.hidden=[16]", "device=cpu", "stream.tasks=3"]
TINY += ["outputs=10", "batch=16", "optimizer.lr=0.01", "steps=20", "log_every=5", "save_every=8"]
CLASSES = {"dense": Dense, "separate": Separate, "ewc": OnlineEwc, "psp": Psp, "batch_ensemble": BatchEnsemble}
TRAINED = list(CLASSES)
FIRST, LAST = "1.weight", "3.weight"


def build(method: str, target: Any, stream: Any, **options: Any) -> Any:
    return {**CLASSES, "nothing": Nothing}[method](target, stream, bench(0), **options)


def images(stream: Any, task: int, count: int = 6) -> tuple[Tensor, Tensor]:
    return stream[task].view(stream[task].train.images[:count]), stream[task].train.labels[:count]


def train(learner: Any, stream: Any, task: int, steps: int = 5) -> None:
    """Some steps on a task and its end, as the loop takes them."""
    optimizer = torch.optim.Adam(learner.groups(), lr=0.01)
    for step in range(steps):
        x, y = images(stream, task, 40)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(learner(x, task), y).backward()
        learner.before_step(step, optimizer)
        optimizer.step()
        learner.after_step(step, optimizer)
    learner.after_task(task, stream[task])


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moves(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}
