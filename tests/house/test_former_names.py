"""Names that were public once are still there, and are the new ones."""

import importlib

import pytest

FORMER = {
    "neuromod.inference.Rule": "neuromod.inference.InferenceRule",
    "neuromod.inference.calibrate_rule": "neuromod.inference.fit_calibration",
    "neuromod.inference.gated": "neuromod.inference.gated_logits",
    "neuromod.inference.routers.Router": "neuromod.inference.predictors.Predictor",
    "neuromod.inference.routers.Linear": "neuromod.inference.predictors.Linear",
    "neuromod.inference.routers.RandomFeatures": "neuromod.inference.predictors.RandomFeatures",
    "neuromod.inference.routers.Signature": "neuromod.inference.predictors.Signature",
    "neuromod.inference.routers.Subspaces": "neuromod.inference.predictors.Subspaces",
    "neuromod.inference.routers.classify": "neuromod.inference.predictors.classify",
    "neuromod.inference.routers.task_scores": "neuromod.inference.predictors.task_scores",
    "neuromod.meta.Head": "neuromod.meta.LinearHead",
    "neuromod.meta.sequential": "neuromod.meta.streaming",
    "neuromod.meta.dual.moved": "neuromod.meta.dual.head_after",
    "neuromod.meta.dual.taken": "neuromod.meta.dual.correction",
    "neuromod.analysis.kept": "neuromod.analysis.density_mask",
    "neuromod.analysis.masked": "neuromod.analysis.masked_weights",
    "neuromod.target.skeleton.restored": "neuromod.target.skeleton.plain_copy",
    "neuromod.calibrate": "neuromod.training.calibrate",
    "neuromod.Head": "neuromod.kinds.Head",
    "tasks.config.load": "tasks.config.load.load",
    "tasks.data.load": "tasks.data.load.load",
    "tasks.folders.load_folder": "tasks.data.folders.load_folder",
}


def at(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("old", "new"), FORMER.items())
def test_a_former_name_is_the_new_one(old: str, new: str) -> None:
    assert at(old) is at(new)
