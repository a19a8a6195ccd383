"""Which task is this? Answers from small statistics of each task's inputs, kept beside its modulation; no input is stored."""

from neuromod.inference.routers.base import Router, classify, task_scores
from neuromod.inference.routers.linear import Linear, RandomFeatures
from neuromod.inference.routers.signature import Signature
from neuromod.inference.routers.subspaces import Subspaces

__all__ = ["Linear", "RandomFeatures", "Router", "Signature", "Subspaces", "classify", "task_scores"]
