"""Right calls of shared differences, and of rows that are given, compared and fitted, for the draws of wrong arguments."""

import copy

import torch
from torch import nn

import neuromod as n
from tests.right_calls import Call


def tuned_copy(base: nn.Module, seed: int) -> nn.Module:
    """A copy whose parameters have moved."""
    net, rng = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng).to(parameter)
    return net


def switch_calls() -> dict[str, Call]:
    """A right call of each."""
    base = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    tuned = tuned_copy(base, 1)
    net = n.shared_delta(base, [tuned])
    target = n.Target(net, torch.ones(2, 6))
    switch = n.Modulator(n.Switch(), n.Table(1), target.weights("*"))
    n.Modulated(target, switch)
    values = {"score": torch.ones(4, 6), "scale": torch.ones(1)}
    film = n.Modulator(n.Affine(), n.Hypernet("condition", embedding=3), target.outputs(nn.Linear))
    n.Modulated(target, film)
    with torch.no_grad():
        for parameter in film.parameters():  # at its start all rows are alike
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    conditions, adam = torch.eye(3), torch.optim.Adam(film.parameters(), lr=1e-3)
    return {
        "shared_delta": Call(n.shared_delta, {"base": base, "tuned": [tuned], "merge": "elect"}),
        "random_delta": Call(n.random_delta, {"base": base, "like": net, "size": 0.5, "seed": 3}),
        "read_switch": Call(
            n.read_switch, {"modulator": switch, "task": 0, "tuned": tuned, "rule": "tall", "strength": 0.5}
        ),
        "row_spread": Call(n.row_spread, {"modulator": film, "conditions": conditions, "least": 0.01}),
        "fit_rows": Call(
            n.fit_rows,
            {
                "modulator": film,
                "rows": [film.start("offset")] * 3,
                "conditions": conditions,
                "optimizer": adam,
                "steps": 1,
            },
        ),
        "give": Call(n.give, {"modulator": switch, "task": 0, "values": values, "site": switch.sites[0]}),
    }
