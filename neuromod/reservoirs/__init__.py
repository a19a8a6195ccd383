"""Reservoirs: an echo-state network to freeze and modulate, its states, readouts in closed form, and conceptors."""

from neuromod.kinds.conceptors import upper, whole
from neuromod.reservoirs.conceptors import (
    conceptor,
    conjunction,
    correlation,
    diagonal,
    disjunction,
    morph,
    negation,
    of_correlation,
    quota,
    with_aperture,
)
from neuromod.reservoirs.draws import spectral_radius
from neuromod.reservoirs.echo import Echo, bound, echo_state
from neuromod.reservoirs.loading import driven, load
from neuromod.reservoirs.network import Reservoir
from neuromod.reservoirs.readout import Moments, Readout, fit
from neuromod.reservoirs.schedule import unroll
from neuromod.reservoirs.scores import memory_curve, nmse, nrmse
from neuromod.reservoirs.states import states

__all__ = [
    "Echo",
    "Moments",
    "Readout",
    "Reservoir",
    "bound",
    "conceptor",
    "conjunction",
    "correlation",
    "diagonal",
    "disjunction",
    "driven",
    "echo_state",
    "fit",
    "load",
    "memory_curve",
    "morph",
    "negation",
    "nmse",
    "nrmse",
    "of_correlation",
    "quota",
    "spectral_radius",
    "states",
    "unroll",
    "upper",
    "whole",
    "with_aperture",
]
