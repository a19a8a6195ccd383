"""Sparse training, pruning and growth: wires that a rule cuts, moves and grows (`neuromod.rewiring`), as experiments.

Args:
    target: the frozen network.
    stream: its tasks.
    bench: the place of the run, whose seed ``source`` draws starts and wires.
    learner: what was trained, in eval mode.
    x: inputs (B, ...), as the view of their task gives them.
    task: the number of a task, or in evaluation int64 (B,), one per sample.
    step: from 0 in each task.
    optimizer: of the learner's groups.

"""

from tasks.sparse.iterative import IterativePruning
from tasks.sparse.learner import Rewired

__all__ = ["IterativePruning", "Rewired"]
