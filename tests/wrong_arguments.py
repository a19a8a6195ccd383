"""Right calls of everything public, and wrong values to put in the place of one argument of each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import neuromod as n
from neuromod import inference, meta
from tests.bank.models import RECIPE, X, model, target

WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "2**70": lambda: 2**70,
    "True": lambda: True,
    "1.5": lambda: 1.5,
    "text": lambda: "x",
    "no text": lambda: "",
    "bytes": lambda: b"x",
    "a list": list,
    "a list of text": lambda: ["x"],
    "a list of None": lambda: [None],
    "a dict": dict,
    "a dict of None": lambda: {0: None},
    "a tuple": lambda: (),
    "numbers of numpy": lambda: np.ones(3),
    "an integer of numpy": lambda: np.int64(7),
    "text of numpy": lambda: np.array(["a"]),
    "integers": lambda: torch.ones(3, dtype=torch.long),
    "floats": lambda: torch.randn(2, 7),
    "no floats": lambda: torch.empty(0),
    "a number": lambda: torch.tensor(0.5),
    "bools": lambda: torch.ones(6, dtype=torch.bool),
    "complex numbers": lambda: torch.ones(6, 12, dtype=torch.complex64),
    "nans": lambda: torch.full((6, 12), torch.nan),
    "halves": lambda: torch.zeros(6, 12, dtype=torch.float16),
    "a module": lambda: nn.Linear(3, 3),
    "a class": lambda: n.Threshold,
    "a class of modules": lambda: nn.Linear,
    "a function": lambda: lambda *_: None,
    "an object": lambda: object(),
    "a slice": lambda: slice(0),
    "a kind": lambda: n.Threshold(),
    "a source": lambda: n.Table(2),
}
LABELS = torch.arange(6) % 5


class Call(NamedTuple):
    """A right call: what is called, and its arguments by name; some that may be anything are left alone."""

    made: Callable[..., Any]
    given: Mapping[str, Any]


def functional(net: nn.Module) -> tuple[meta.Functional, Any]:
    declared = meta.Functional(net, "*")
    return declared, lambda fast, batch: cross_entropy(declared(fast, batch[0]), batch[1])


def kinds() -> dict[str, Call]:
    return {
        "Affine": Call(n.Affine, {"init": "one"}),
        "Bernoulli": Call(n.Bernoulli, {"rescale": True}),
        "Gate": Call(n.Gate, {"form": "hard", "spread": 0.5}),
        "Head": Call(n.Head, {"width": 3}),
        "LowRankDelta": Call(n.LowRankDelta, {"rank": 2, "alpha": 1.0}),
        "Rank1": Call(n.Rank1, {"form": "real"}),
        "Subset": Call(n.Subset, {"per_output": 1.0, "seed": 0}),
        "Threshold": Call(n.Threshold, {"at": 0.0, "strict": False, "constant": 0.1}),
        "TopK": Call(n.TopK, {"density": 0.5}),
    }


def sources() -> dict[str, Call]:
    shared = {"hidden": 4, "embedding": 3, "learn_body": True, "body": nn.Linear(3, 4)}
    return {
        "Table": Call(n.Table, {"tasks": 2}),
        "Hypernet": Call(n.Hypernet, {"reads": "task", "tasks": 2, "chunk": 5, "chunk_code": 2, **shared}),
        "Hypernet of labels": Call(n.Hypernet, {"reads": "condition", "labels": 3}),
        "LowRank": Call(n.LowRank, {"rank": 2, "reads": "task", "tasks": [0, 1], **shared}),
        "Mixture": Call(n.Mixture, {"experts": 2, "reads": "input", "form": "hard", "tasks": 1, **shared}),
        "SetEncoder": Call(n.SetEncoder, {"body": nn.Linear(3, 4)}),
    }


def models(folder: Path) -> dict[str, Call]:
    made, at_rest = model(2, sealed=False), model(2)
    bank, store = n.Bank(at_rest), n.Store.create(folder / "store", at_rest)
    store.append(at_rest, 0)
    n.save_pretrained(at_rest, folder / "saved")
    hyper = n.Modulated(
        made.target, n.Modulator(n.Affine(), n.Hypernet(tasks=2, hidden=3), made.target.norms(), seed=0)
    )
    regulariser = n.OutputRegulariser(hyper, beta=0.1, seed=0)
    return {
        "Recipe": Call(n.Recipe, {"constructor": "a:b", "kwargs": {}, "init": "orthogonal", "seed": 0, "density": 0.5}),
        "Bank": Call(n.Bank, {"model": at_rest, "tasks": [0, 1], "path": "plain"}),
        "Bank.grow": Call(n.Bank(at_rest, [0]).grow, {"tasks": [1]}),
        "Bank.superpose": Call(bank.superpose, {"alphas": torch.ones(2)}),
        "Bank.project": Call(
            bank.project, {"gradients": {k: torch.ones_like(v) for k, v in bank.mean().items()}, "planes": 4}
        ),
        "Store.create": Call(n.Store.create, {"folder": folder / "new", "model": at_rest, "coding": "raw"}),
        "Store.open": Call(n.Store.open, {"folder": folder / "store", "classes": ()}),
        "Store.exists": Call(n.Store.exists, {"folder": folder / "store"}),
        "Store.append": Call(store.append, {"model": at_rest, "task": 1}),
        "Store.read": Call(store.read, {"task": 0, "model": at_rest}),
        "Store.load": Call(store.load, {"model": model(0, on=at_rest.target), "tasks": [0]}),
        "save_pretrained": Call(n.save_pretrained, {"model": at_rest, "folder": folder / "saved", "coding": "raw"}),
        "from_pretrained": Call(
            n.from_pretrained, {"folder": folder / "saved", "target": at_rest.target, "tasks": [0], "classes": ()}
        ),
        "from_pretrained, drawn": Call(
            n.from_pretrained,
            {"folder": folder / "saved", "constructor": n.target.recipe.locate(RECIPE.constructor), "example": X},
        ),
        "OutputRegulariser": Call(
            n.OutputRegulariser,
            {"model": hyper, "beta": 0.1, "lookahead": True, "stored": True, "sample": 1, "seed": 0},
        ),
        "OutputRegulariser.hold": Call(regulariser.hold, {"task": 0}),
        "OutputRegulariser.backward": Call(
            regulariser.backward, {"optimizer": torch.optim.SGD(hyper.parameters(), lr=0.1)}
        ),
    }


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


def calls(folder: Path) -> dict[str, Call]:
    """A right call of everything public, by its name."""
    return kinds() | sources() | models(folder) | loops() | questions()
