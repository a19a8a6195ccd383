"""The former name of `neuromod.inference.predictors`, for code that imports it."""

from neuromod.inference import predictors

Router = predictors.Predictor
Linear, RandomFeatures = predictors.Linear, predictors.RandomFeatures
Signature, Subspaces = predictors.Signature, predictors.Subspaces
classify, task_scores = predictors.classify, predictors.task_scores
