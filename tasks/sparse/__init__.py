"""Sparse training, pruning and growth: wires that a rule cuts, moves and grows (`neuromod.rewiring`), as experiments."""

from tasks.sparse.iterative import IterativePruning
from tasks.sparse.learner import Rewired

__all__ = ["IterativePruning", "Rewired"]
