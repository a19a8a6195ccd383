"""Which task is this input from? Functions of (modulated, batch) to scores of tasks; the largest is the answer."""

from neuromod.inference.allocation import Standout, Verified
from neuromod.inference.brute_force import brute_force, verify
from neuromod.inference.calibration import Calibration
from neuromod.inference.choose import Choice, choose
from neuromod.inference.halving import halving
from neuromod.inference.hopfield import Hopfield, gated, pattern, recall
from neuromod.inference.infer import Inference, Rule, calibrate_rule, infer
from neuromod.inference.objectives import OBJECTIVES, energy, entropy, margin, max_logit, max_probability, surplus
from neuromod.inference.one_shot import one_shot
from neuromod.inference.predict import Prediction, predict

__all__ = [
    "OBJECTIVES",
    "Calibration",
    "Choice",
    "Hopfield",
    "Inference",
    "Prediction",
    "Rule",
    "Standout",
    "Verified",
    "brute_force",
    "calibrate_rule",
    "choose",
    "energy",
    "entropy",
    "gated",
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
