"""Right calls of what cuts, moves and grows wires, for the draws of wrong arguments."""

import torch

from neuromod import connect, rewiring
from tests.rewiring.models import model_of, network
from tests.right_calls import Call


def rewiring_calls() -> dict[str, Call]:
    """A right call of everything in `neuromod.rewiring` and of `neuromod.connect`."""
    model = model_of()
    sites = model.target.weights("*")
    options = {
        "steps": 5,
        "density": 0.3,
        "scope": "uniform",
        "task": None,
        "sites": ["0.weight"],
        "rescale": True,
        "seed": 0,
    }
    rule = {
        "drop": "magnitude",
        "grow": "random",
        "moved": 0.3,
        "anneal": "linear",
        "every": 5,
        "until": 0.5,
        "born": "zero",
    }
    rule |= {"dense": False, "pauses": True, "cut": "drawn", "together": False, "rounds": 1}

    def rewired(**given: object) -> object:
        return rewiring.Rewiring(model, "generated", rewiring.rule_of("rigl"), **given)  # type: ignore[arg-type]

    return {
        "wire_counts": Call(rewiring.wire_counts, {"sites": sites, "density": 0.3, "scope": "erk"}),
        "Rule": Call(rewiring.Rule, rule),
        "rule_of": Call(rewiring.rule_of, {"name": "rigl", "every": 5}),
        "Rewiring": Call(rewired, options),
        "connect": Call(connected, {"source": "0", "reader": "2", "example": torch.ones(2, 8, dtype=torch.float64)}),
    }


def connected(**given: object) -> object:
    return connect(network(), **given)  # type: ignore[arg-type]
