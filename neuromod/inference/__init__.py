"""Which task is this input from? Functions of (modulated, batch) to scores of tasks; the largest is the answer."""

from neuromod.inference.brute_force import brute_force
from neuromod.inference.objectives import entropy
from neuromod.inference.one_shot import one_shot

__all__ = ["brute_force", "entropy", "one_shot"]
