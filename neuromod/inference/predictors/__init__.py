"""Which task is this? Answers from small statistics of each task's inputs, kept beside its modulation; no input is stored."""

from neuromod.inference.predictors.base import Predictor, classify, task_scores
from neuromod.inference.predictors.linear import Linear, RandomFeatures
from neuromod.inference.predictors.signature import Signature
from neuromod.inference.predictors.subspaces import Subspaces

__all__ = ["Linear", "Predictor", "RandomFeatures", "Signature", "Subspaces", "classify", "task_scores"]
