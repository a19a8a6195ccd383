"""The outer loop: an optimiser over what is slow, resumable at every checkpoint."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tasks.runs.progress import Progress
from tasks.runs.run import Run
from tasks.continual.sequence import set_rate

Step = Callable[[int], Tensor]
"""The number of an outer step to its loss; gradients are left on the parameters."""


def loop(net: nn.Module, step: Step, run: Run, config: Mapping[str, Any], steps: int) -> None:
    """Adam over all that asks for a gradient: resumable at every checkpoint, bit for bit, for a step is drawn from its number."""
    moved = [p for p in net.parameters() if p.requires_grad]
    if not moved:
        run.rewind(0)
        return
    optimizer = torch.optim.Adam(moved, lr=config["meta"]["rate"])
    done = _resume(net, optimizer, run)
    progress, began = Progress(config["title"], max(steps, 1), done=done), time.process_time()
    while done < steps:
        set_rate(optimizer, config["schedule"], done, steps)
        optimizer.zero_grad(set_to_none=True)
        loss = step(done)
        optimizer.step()
        done += 1
        if done % config["log_every"] == 0 or done == steps:
            value = float(loss)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the outer loss must stay finite; got {value} at step {done}; lower meta.rate"
                )
            run.log(step=done, task=None, phase="train", loss=value, clock={"seconds": time.process_time() - began})
            progress.update(done, loss=value)
        if done % config["save_every"] == 0 or done == steps:
            run.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, done)
    progress.close()


def _resume(net: nn.Module, optimizer: torch.optim.Optimizer, run: Run) -> int:
    found = run.load()
    if found is None:
        run.rewind(0)
        return 0
    tree, step = found
    run.rewind(step)
    net.load_state_dict(tree["model"])
    optimizer.load_state_dict(tree["optimizer"])
    return step
