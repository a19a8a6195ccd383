"""Right calls of everything public, and wrong values to put in the place of one argument of each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import neuromod as n
from tests.analysis_calls import analyses
from tests.bank.models import RECIPE, X, model
from tests.model_calls import model_calls
from tests.reservoir_calls import reservoir_calls
from tests.rewiring_calls import rewiring_calls
from tests.right_calls import Call, loops, questions
from tests.switch_calls import switch_calls
from tests.ticket_calls import ticket_calls

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


def kinds() -> dict[str, Call]:
    return {
        "AdaFM": Call(n.AdaFM, {}),
        "Affine": Call(n.Affine, {"init": "one"}),
        "Bernoulli": Call(n.Bernoulli, {"rescale": True, "searched": 0.5, "locked": 0.5, "seed": 3}),
        "Coats": Call(n.Coats, {"densities": [0.5, 0.2], "searched": 0.5, "locked": 0.5, "seed": 3}),
        "Conceptor": Call(n.Conceptor, {}),
        "Gate": Call(n.Gate, {"form": "hard", "spread": 0.5}),
        "Head": Call(n.Head, {"width": 3}),
        "LowRankDelta": Call(n.LowRankDelta, {"rank": 2, "alpha": 1.0}),
        "Rank1": Call(n.Rank1, {"form": "real"}),
        "Signed": Call(n.Signed, {"at": 0.5, "searched": 0.5, "locked": 0.5, "seed": 3}),
        "Subset": Call(n.Subset, {"per_output": 1.0, "seed": 0}),
        "Switch": Call(n.Switch, {"form": "sign"}),
        "Wires": Call(n.Wires, {"density": 0.5}),
        "Threshold": Call(
            n.Threshold, {"at": 0.0, "strict": False, "constant": 0.1, "searched": 0.5, "locked": 0.5, "seed": 3}
        ),
        "TopK": Call(n.TopK, {"density": 0.5, "searched": 0.5, "locked": 0.5, "seed": 3}),
    }


def sources() -> dict[str, Call]:
    shared = {"hidden": 4, "embedding": 3, "learn_body": True, "body": nn.Linear(3, 4)}
    return {
        "Table": Call(n.Table, {"tasks": 2}),
        "Hypernet": Call(n.Hypernet, {"reads": "task", "tasks": 2, "chunk": 5, "chunk_code": 2, **shared}),
        "Hypernet of labels": Call(n.Hypernet, {"reads": "condition", "labels": 3}),
        "Subspace": Call(n.Subspace, {"size": 2, "reads": "task", "tasks": [0, 1], **shared}),
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
        "Bank.bits": Call(bank.bits, {"name": "1.weight", "tasks": [0]}),
        "Bank.project_factors": Call(
            bank.project_factors, {"factors": {"1.weight": (torch.ones(6, 12), torch.ones(6, 10))}}
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


def calls(folder: Path) -> dict[str, Call]:
    """A right call of everything public, by its name."""
    base = kinds() | sources() | models(folder) | loops() | questions() | model_calls() | analyses()
    return base | ticket_calls() | reservoir_calls() | rewiring_calls() | switch_calls()
