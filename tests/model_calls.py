"""Right calls of targets, modulators and models, for the draws of wrong arguments."""

from typing import Any

import torch
from torch import nn

import neuromod as n
from neuromod.training import skip_untouched
from tests.bank.models import X, target
from tests.right_calls import Call


def model_calls() -> dict[str, Call]:
    """A right call of what a model is made of and of a model itself, each on its own objects."""
    t = target()
    live, sealed = made(t), made(t)
    sealed.seal(0)
    site = t.weights("*")[0]
    fields = {f: getattr(site, f) for f in ("name", "role", "shape", "module", "channel", "batch", "bias")}
    rows, row = live.rows(X, task=0), live.modulators["threshold"].source.own(0)
    return {
        "Target": Call(
            lambda **given: n.Target(**given),
            {
                "net": nn.Linear(12, 3),
                "example": X,
                "norm": "frozen",
                "batch_axis": 0,
                "dropout": False,
                "recipe": None,
            },
        ),
        "Target.weights": Call(
            lambda pattern, **g: t.weights(pattern, **g), {"pattern": "*", "exclude": (), "unused": "skip"}
        ),
        "Target.biases": Call(
            lambda pattern, **g: t.biases(pattern, **g), {"pattern": "*", "exclude": (), "unused": "skip"}
        ),
        "Target.outputs": Call(
            lambda pattern, **g: t.outputs(pattern, **g),
            {"pattern": nn.ReLU, "exclude": (), "channel": -1, "unused": "skip"},
        ),
        "Target.norms": Call(
            lambda pattern, **g: t.norms(pattern, **g),
            {"pattern": "*", "exclude": (), "placement": "after", "unused": "skip"},
        ),
        "Target.statistics": Call(lambda exclude: normed().statistics(exclude=exclude), {"exclude": ()}),
        "Target.from_recipe": Call(
            n.Target.from_recipe, {"recipe": n.Recipe(nn.Linear, {"in_features": 12, "out_features": 3}), "example": X}
        ),
        "Site": Call(n.Site, fields),
        "Modulator": Call(
            n.Modulator,
            {
                "kind": n.Threshold(),
                "source": n.Table(2),
                "sites": t.weights("*"),
                "seed": 0,
                "identity": False,
                "dtype": None,
            },
        ),
        "Modulated": Call(
            lambda target, modulator, vmap: n.Modulated(target, modulator, vmap=vmap),
            {"target": t, "modulator": n.Modulator(n.Threshold(), n.Table(2), t.weights("*")), "vmap": False},
        ),
        "model()": Call(lambda x, task: live(x, task=task), {"x": X, "task": 0}),
        "model(condition)": Call(conditioned(t), {"x": X, "condition": torch.zeros(4), "draw": None}),
        "model(rows)": Call(lambda rows: live(X, rows=rows), {"rows": rows}),
        "model.rows": Call(
            lambda x, task, condition, draw: live.rows(x, task=task, condition=condition, draw=draw),
            {"x": X, "task": 0, "condition": None, "draw": None},
        ),
        "model.edits": Call(
            lambda task, condition: live.edits(task=task, condition=condition), {"task": 0, "condition": None}
        ),
        "model.add": Call(lambda task: made(t).add(task), {"task": 9}),
        "model.seal": Call(lambda task: made(t).seal(task), {"task": 0}),
        "model.bytes_per_task": Call(live.bytes_per_task, {"task": 0}),
        "model.cache": Call(lambda task: made(t).eval().cache(task), {"task": 0}),
        "model.cache, several": Call(lambda task: made(t).eval().cache(0, task), {"task": 1}),
        "model.train": Call(lambda mode: made(t).train(mode), {"mode": True}),
        "model.compose": Call(live.compose, {"rows": {"threshold": row}}),
        "model.compose, row": Call(lambda row: live.compose({"threshold": row}), {"row": row}),
        "model.compose, value": Call(
            lambda value: live.compose({"threshold": {**row, next(iter(row)): value}}),
            {"value": next(iter(row.values()))},
        ),
        "model.load_state_dict": Call(
            made(t).load_state_dict, {"state_dict": live.state_dict(), "strict": True, "assign": False}
        ),
        "model.load_state_dict, fingerprint": Call(
            lambda fingerprint: made(t).load_state_dict({**live.state_dict(), "fingerprint": fingerprint}),
            {"fingerprint": live.fingerprint},
        ),
        "modulator.load_state_dict": Call(
            made(t).modulators["threshold"].load_state_dict, {"state_dict": live.modulators["threshold"].state_dict()}
        ),
        "model.context": Call(lambda inputs, task: live.context(inputs, task), {"inputs": (X,), "task": 0}),
        "source.own": Call(live.modulators["threshold"].source.own, {"task": 0}),
        "source.forget": Call(lambda task: made(t).modulators["threshold"].source.forget(task), {"task": 0}),
        "source.own, shared": Call(shared(t).own, {"task": 0}),
        "source.forget, shared": Call(lambda task: shared(t).forget(task), {"task": 0}),
        "source.load_state_dict": Call(
            made(t).modulators["threshold"].source.load_state_dict,
            {"state_dict": live.modulators["threshold"].source.state_dict()},
        ),
        "modulator.add": Call(lambda task: made(t).modulators["threshold"].add(task), {"task": 9}),
        "modulator.seal": Call(lambda task: made(t).modulators["threshold"].seal(task), {"task": 0}),
        "modulator.stored": Call(lambda task: live.modulators["threshold"].stored(task), {"task": 0}),
        "modulator.blended": Call(lambda task: sealed.modulators["threshold"].blended(task), {"task": 0}),
        "bake": Call(
            lambda model, task, condition: n.bake(model, task=task, condition=condition),
            {"model": live, "task": 0, "condition": None},
        ),
        "calibrate": Call(
            lambda model, task, data, condition: n.calibrate(model, task, data, condition=condition),
            {"model": measured(), "task": 0, "data": torch.zeros(6, 2, 4, 4), "condition": None},
        ),
        "Together": Call(n.Together, {"model": live, "tasks": [0, 1]}),
        "skip_untouched": Call(skip_untouched, {"optimizer": torch.optim.SGD(live.parameters(), lr=0.1)}),
    }


def made(t: n.Target) -> n.Modulated:
    return n.Modulated(t, n.Modulator(n.Threshold(), n.Table(2), t.weights("*"), seed=0))


def shared(t: n.Target) -> n.Hypernet:
    source = n.Hypernet(tasks=2, hidden=3)
    n.Modulated(t, n.Modulator(n.Affine(), source, t.norms(), seed=0))
    return source


def conditioned(t: n.Target) -> Any:
    film = n.Modulated(t, n.Modulator(n.Affine(), n.Hypernet("condition", embedding=4), t.norms(), seed=0))
    return lambda x, condition, draw: film(x, condition=condition, draw=draw)


def normed() -> n.Target:
    return n.Target(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)), torch.zeros(6, 2, 4, 4), norm="batch")


def measured() -> n.Modulated:
    t = normed()
    return n.Modulated(t, n.Modulator(n.Statistics(), n.Table(2), t.statistics(), seed=0))
