"""Which task is this input from? Functions of (modulated, batch) to scores of tasks; the largest is the answer."""

from neuromod.inference.allocation import AllocationRule, Standout, Verified
from neuromod.inference.brute_force import brute_force, verify
from neuromod.inference.calibration import Calibration
from neuromod.inference.choice import Choice, choose
from neuromod.inference.halving import halving
from neuromod.inference.hopfield import Hopfield, gated_logits, pattern, recall
from neuromod.inference.infer import Inference, InferenceRule, fit_calibration, infer
from neuromod.inference.objectives import OBJECTIVES, energy, entropy, margin, max_logit, max_probability, surplus
from neuromod.inference.one_shot import one_shot
from neuromod.inference.predict import Prediction, predict

__all__ = [
    "OBJECTIVES",
    "AllocationRule",
    "Calibration",
    "Choice",
    "Hopfield",
    "Inference",
    "InferenceRule",
    "Prediction",
    "Standout",
    "Verified",
    "brute_force",
    "choose",
    "energy",
    "entropy",
    "fit_calibration",
    "gated_logits",
    "halving",
    "infer",
    "margin",
    "max_logit",
    "max_probability",
    "one_shot",
    "pattern",
    "predict",
    "recall",
    "surplus",
    "verify",
]

# Former names, for code that imports them.
Rule = InferenceRule
calibrate_rule = fit_calibration
gated = gated_logits
