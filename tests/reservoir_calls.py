"""Right calls of reservoirs, for the draws of wrong arguments."""

import torch

import neuromod as n
from neuromod import reservoirs as r
from tests.right_calls import Call


def reservoir_calls() -> dict[str, Call]:
    rng = torch.Generator().manual_seed(0)
    net = r.Reservoir(6, 1, seed=0)
    target = n.Target(net, net.example())
    gains = n.Modulator(n.Affine(), n.Table(2), target.outputs("drive"))
    model = n.Modulated(target, gains)
    u = torch.rand(2, 40, 1, generator=rng, dtype=torch.float64)
    (x,) = r.states(net, u)
    a, b = (r.conceptor(one, 2.0) for one in x)
    series = {"states": x[0], "inputs": u[0, :, 0], "delays": 4, "washout": 2, "ridge": 1e-6}
    drawn = {"form": "sparse", "radius": 0.9, "density": 0.5, "input_scale": 0.1, "bias_scale": 0.2, "leak": 0.5}
    fitted = {"states": x, "targets": u, "inputs": u, "ridge": [1e-6], "washout": 2, "held_out": 5, "each": False}
    checked = {"inputs": u[0], "tasks": [0, 1], "dwell": 5, "tolerance": 1e-3, "otherwise": "report", "seed": 0}
    plain = {"net": r.Reservoir(6, 1, seed=0), "patterns": u, "washout": 5}
    return {
        "Reservoir": Call(r.Reservoir, {"units": 6, "inputs": 1, "seed": 0, "dtype": torch.float64, **drawn}),
        "states": Call(r.states, {"reservoirs": net, "inputs": u, "start": x[None, :, 0]}),
        "unroll": Call(r.unroll, {"model": model, "inputs": u, "task": [0] * 40, "start": x[:, 0], "every": 3}),
        "echo_state": Call(r.echo_state, {"model": model, **checked}),
        "bound": Call(r.bound, {"model": model, "task": 0}),
        "fit": Call(r.fit, fitted),
        "fit, called": Call(r.fit(x, u, inputs=u), {"states": x, "inputs": u}),
        "nmse": Call(r.nmse, {"found": u[0], "wanted": u[1]}),
        "nrmse": Call(r.nrmse, {"found": u[0], "wanted": u[1]}),
        "memory_curve": Call(r.memory_curve, series),
        "spectral_radius": Call(r.spectral_radius, {"weight": net.recurrent.weight.detach()}),
        "driven": Call(r.driven, plain),
        "load": Call(r.load, plain | {"ridge": 1e-4}),
        "correlation": Call(r.correlation, {"states": x}),
        "conceptor": Call(r.conceptor, {"states": x, "aperture": 2.0}),
        "of_correlation": Call(r.of_correlation, {"matrix": r.correlation(x), "aperture": 2.0}),
        "diagonal": Call(r.diagonal, {"states": x, "aperture": 2.0}),
        "negation": Call(r.negation, {"a": a}),
        "conjunction": Call(r.conjunction, {"a": a, "b": b}),
        "disjunction": Call(r.disjunction, {"a": a, "b": b}),
        "with_aperture": Call(r.with_aperture, {"a": a, "factor": 2.0}),
        "quota": Call(r.quota, {"a": a}),
        "morph": Call(r.morph, {"a": a, "b": b, "share": 0.5}),
        "upper": Call(r.upper, {"matrix": a}),
        "whole": Call(r.whole, {"half": r.upper(a), "n": 6}),
    }
