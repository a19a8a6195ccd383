"""A store refuses another target, another model and a config of someone who means harm, in one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neuromod import (
    Affine,
    Gate,
    Hypernet,
    Modulated,
    Modulator,
    Recipe,
    RefusedError,
    Store,
    Table,
    Target,
    Threshold,
    from_pretrained,
    save_pretrained,
)
from tasks.networks import mlp
from tests.bank.models import RECIPE, X, model, target
from tests.bank.stores import edited
from tests.refusals import refuses

# ---- other targets, other models -----------------------------------------------------------------------------------


def test_another_target(folder: Path) -> None:
    ours, theirs = target().fingerprint()[:12], target(4).fingerprint()[:12]
    with refuses(ours, theirs):
        from_pretrained(folder, target=target(4))
    with refuses(ours, theirs):
        Store.open(folder).append(model(seed=4), 0)
    with refuses(ours, theirs):
        Store.open(folder).load(model(seed=4))
    with refuses("'tasks.networks.mlp:mlp'", "pass constructor="):
        from_pretrained(folder)
    with refuses("'tasks.networks.mlp:mlp'", "the function"):
        from_pretrained(folder, constructor="tasks.networks.mlp:mlp")  # type: ignore[arg-type]
    with refuses("drop one"):
        from_pretrained(folder, target=target(), constructor=mlp)
    with refuses("norm='frozen'", "'batch'"):
        from_pretrained(folder, target=Target(RECIPE.build(), X, norm="batch"))
    with refuses("this is"):
        from_pretrained(folder, constructor=lambda **kwargs: mlp(**kwargs | {"hidden": (9, 8)}), example=X)


def test_another_model(folder: Path) -> None:
    t = target()
    others = (
        Modulated(t, Modulator(Threshold(), Table(1), t.weights("*"), seed=0)),
        Modulated(t, Modulator(Threshold(), Table(1), t.weights("*"), seed=1), model(on=t).modulators["affine"]),
    )
    for other in others:
        with refuses("one set of modulators", "threshold: Threshold x Table, affine"):
            Store.open(folder).load(other)
    with refuses("one set of modulators"):
        Store.open(folder).append(others[0], 0)


def test_what_can_not_be_said(tmp_path: Path) -> None:
    t = target()
    body = Hypernet("input", body=nn.Linear(12, 3))
    with refuses("made again by a function or class of yours", "'Linear'", "body=my_body"):
        save_pretrained(Modulated(t, Modulator(Gate("doubled"), body, t.norms(), seed=0)), tmp_path)
    odd = Recipe(lambda **kwargs: mlp((12,), 5, (10,)), {"device": torch.device("cpu")})
    with refuses("in JSON", "without recipe="):
        save_pretrained(plain(odd), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with refuses("'smallest'"):
        Store.create(tmp_path, model(), coding="smalest")


def plain(recipe: Recipe) -> Modulated:
    t = Target.from_recipe(recipe, X)
    return Modulated(t, Modulator(Threshold(), Table([]), t.weights("*"), seed=0))


def test_no_task_is_read(tmp_path: Path) -> None:
    t = target()
    made = Modulated(t, Modulator(Affine(), Table(None), t.norms(), seed=0))
    store = save_pretrained(made, tmp_path)
    with refuses("where a modulator reads it", "task 0"):
        store.append(made, 0)


# ---- nothing that is named is run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["modulators"][0].update(kind="os.system"),
        lambda c: c["modulators"][0].update(kind="Kind"),
        lambda c: c["modulators"][0].update(source="os.system"),
        lambda c: c["modulators"][0].update(source="tests.bank.trap:go"),
        lambda c: c["modulators"][0].update(name="__class__"),
        lambda c: c["modulators"][0]["fields"].update(__class__="os"),
        lambda c: c["modulators"][0]["arguments"].update(body="tests.bank.trap:go"),
        lambda c: c["modulators"][0]["sites"][0].update(name="forward"),
        lambda c: c["modulators"][0]["sites"][0].update(shape=[1]),
        lambda c: c["modulators"][0].pop("seed"),
        lambda c: c.pop("target"),
        lambda c: c.update(modulators=3),
        lambda c: c["target"].update(recipe={"constructor": "os:system", "kwargs": {"command": "echo"}}),
    ],
)
def test_a_hostile_config(folder: Path, change: Callable[[dict[str, Any]], None], monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "system", lambda *a, **k: pytest.fail("was run"))
    edited(folder, change)
    loaded = set(sys.modules)
    with pytest.raises(RefusedError, match=r"\A[^\n]*\Z"):
        from_pretrained(folder, target=None if "os:system" in (folder / "config.json").read_text() else target())
    assert set(sys.modules) == loaded
