"""Right calls of inner loops and of questions about tasks, for the draws of wrong arguments."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import neuromod as n
from neuromod import inference, meta
from tests.bank.models import X, model, target

LABELS = torch.arange(6) % 5


class Call(NamedTuple):
    """A right call: what is called, and its arguments by name; some that may be anything are left alone."""

    made: Callable[..., Any]
    given: Mapping[str, Any]


def functional(net: nn.Module) -> tuple[meta.Functional, Any]:
    declared = meta.Functional(net, "*")
    return declared, lambda fast, batch: cross_entropy(declared(fast, batch[0]), batch[1])


def loops() -> dict[str, Call]:
    net = nn.Linear(12, 5)
    declared, loss = functional(net)
    episodes = meta.Episodes((X[None], LABELS[None]), (X[None], LABELS[None]))
    both = {"loss": loss, "fast": declared.start()}
    head = meta.LinearHead(torch.randn(5, 12), torch.randn(5))
    told = {"features": X, "labels": LABELS}
    rates = torch.tensor([0.1, 0.2])
    lda = meta.StreamingLDA(12, 5)
    return {
        "SGD": Call(meta.SGD, {"rate": 0.1, "momentum": 0.5}),
        "Adam": Call(meta.Adam, {"rate": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}),
        "Functional": Call(meta.Functional, {"net": net, "fast": "*", "plastic": "*"}),
        "Functional()": Call(lambda fast: declared(fast, X), {"fast": declared.start()}),
        "BatchNorm": Call(meta.BatchNorm, {"channels": 3, "eps": 1e-5, "affine": True}),
        "InstanceNorm": Call(meta.InstanceNorm, {"channels": 3, "eps": 1e-5, "affine": True}),
        "LayerNorm": Call(meta.LayerNorm, {"shape": 3, "eps": 1e-5, "affine": True}),
        "exact": Call(meta.exact, {"net": net}),
        "check_exact": Call(meta.check_exact, {"net": net}),
        "adapt": Call(
            meta.adapt,
            both
            | {
                "batches": [(X, LABELS)],
                "optimiser": meta.SGD(0.1),
                "order": 1,
                "engine": "autograd",
                "recompute": False,
            },
        ),
        "maml": Call(
            meta.maml,
            both
            | {
                "episodes": episodes,
                "optimiser": meta.SGD(0.1),
                "steps": 1,
                "order": 1,
                "engine": "func",
                "judge": loss,
            },
        ),
        "cavia": Call(
            meta.cavia,
            {
                "loss": lambda fast, batch: (net(batch[0]) + fast["context"]).square().mean(),
                "size": 5,
                "episodes": episodes,
                "optimiser": meta.SGD(0.1),
                "order": 1,
                "like": net.weight,
            },
        ),
        "reptile": Call(meta.reptile, both | {"supports": episodes.support, "optimiser": meta.SGD(0.1), "steps": 1}),
        "online": Call(
            meta.online,
            both | {"trajectory": (X, LABELS), "outer": (X, LABELS), "optimiser": meta.SGD(0.1), "order": 1},
        ),
        "online_head": Call(
            meta.online_head,
            {"encode": lambda x: x, "head": head, "images": X, "labels": LABELS, "steps": 3, "rate": 0.1, "order": 1},
        ),
        "online_dual": Call(
            meta.online_dual,
            {
                "encode": lambda fast, x: x * fast["gain"],
                "fast": {"gain": torch.ones(12)},
                "head": head,
                "images": X,
                "labels": LABELS,
                "steps": 3,
                "rate": 0.1,
                "order": 1,
            },
        ),
        "reset_row": Call(meta.reset_row, {"weight": torch.ones(5, 12), "row": 1, "fresh": torch.zeros(12)}),
        "ridge": Call(meta.ridge, told | {"classes": 5, "penalty": 1.0}),
        "class_means": Call(meta.class_means, told | {"classes": 5}),
        "prototypes": Call(meta.prototypes, told | {"query": X, "classes": 5}),
        "cnaps": Call(meta.cnaps, {"encode": lambda x, **_: x, "episodes": episodes, "classes": 5, "adapted": False}),
        "StreamingLDA": Call(
            meta.StreamingLDA, {"features": 12, "classes": 5, "shrink": 0.1, "dtype": torch.float64, "seen": 0}
        ),
        "StreamingLDA.learn": Call(lda.learn, told | {"block": 4}),
        "errors": Call(meta.dual.errors, told | {"head": head, "rate": 0.1, "order": 2}),
        "streaming.sgd": Call(
            lambda **given: list(meta.streaming.sgd(**given)),
            told | {"head": head, "rates": rates, "at": [3], "block": 4},
        ),
        "streaming.adam": Call(
            lambda **given: list(meta.streaming.adam(**given)),
            told | {"head": head, "rates": rates, "at": [3], "betas": (0.9, 0.99), "eps": 1e-8},
        ),
        "backward": Call(meta.backward, {"loss": net(X).sum()}),
    }


def questions() -> dict[str, Call]:
    at_rest = model(3)
    t = target()
    gated = n.Modulated(t, n.Modulator(n.Gate("hard", spread=1.0), n.Table(2), t.norms(), seed=0)).eval()
    memory = inference.Hopfield.of(gated)
    rule, bank, tasks = inference.InferenceRule(), n.Bank(at_rest), [0, 1, 2]
    units = len(memory.psi)
    few = {"model": at_rest, "x": X, "tasks": tasks}
    scores = torch.randn(4, 3)
    return {
        "InferenceRule": Call(
            inference.InferenceRule,
            {"method": "halving", "objective": "entropy", "sites": ("1.weight",), "real": 3, "best": 2, "planes": 4},
        ),
        "infer": Call(inference.infer, few | {"rule": rule, "group": 2, "bank": bank, "eps": 0.1}),
        "infer, tried": Call(
            inference.infer,
            few
            | {
                "rule": inference.InferenceRule("brute_force"),
                "calibration": inference.Calibration(scores[0], scores[1].exp()),
            },
        ),
        "fit_calibration": Call(
            inference.fit_calibration, {"model": at_rest, "data": dict.fromkeys(tasks, X), "rule": rule}
        ),
        "Calibration": Call(inference.Calibration(torch.zeros(3), torch.ones(3)), {"scores": scores}),
        "one_shot": Call(
            inference.one_shot,
            few
            | {
                "objective": inference.entropy,
                "sites": ["1.weight"],
                "group": 2,
                "bank": bank,
                "planes": 4,
                "chunk": 2,
            },
        ),
        "halving": Call(
            inference.halving, few | {"objective": inference.entropy, "group": 2, "bank": bank, "chunk": 2}
        ),
        "brute_force": Call(inference.brute_force, few | {"objective": inference.entropy}),
        "verify": Call(
            inference.verify, few | {"likely": torch.zeros(6, 1, dtype=torch.long), "objective": inference.entropy}
        ),
        "choose": Call(
            inference.choose,
            {"model": at_rest, "data": dict.fromkeys(tasks, X), "real": 5, "group": 2, "rules": [rule]},
        ),
        "predict": Call(inference.predict, {"model": at_rest, "x": X, "by": rule, "tasks": tasks}),
        "Standout": Call(inference.Standout, {"eps": 0.1, "reserve": 5}),
        "Verified": Call(inference.Verified, {"real": 3, "threshold": 0.5, "best": 2}),
        "Standout.decide": Call(inference.Standout().decide, {"model": model(3, sealed=False), "x": X, "tasks": tasks}),
        "Hopfield": Call(inference.Hopfield, {"size": 4, "like": torch.zeros(1)}),
        "Hopfield.of": Call(inference.Hopfield.of, {"model": gated, "tasks": [0]}),
        "Hopfield.store": Call(inference.Hopfield(4).store, {"z": torch.ones(4), "task": 3}),
        "Hopfield.nearest": Call(memory.nearest, {"z": torch.ones(units)}),
        "gated_logits": Call(inference.gated_logits, {"model": gated, "z": torch.ones(units), "x": X}),
        "pattern": Call(inference.pattern, {"model": gated, "task": 0}),
        "recall": Call(
            inference.recall,
            {"model": gated, "batches": [X], "memory": memory, "rate": 0.1, "gamma": 0.1, "start": torch.ones(units)},
        ),
        **{name: Call(made, {"logits": scores, "real": 2}) for name, made in inference.OBJECTIVES.items()},
    }
