"""`save_pretrained` and `from_pretrained`: a model's sealed tasks to a folder, and a model from one."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from neuromod.arguments import instance, shown
from neuromod.bank.classes import Classes
from neuromod.bank.schema import live
from neuromod.bank.store import Store
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.target.target import Target


def save_pretrained(model: Modulated, folder: str | os.PathLike[str], *, coding: str = "smallest") -> Store:
    """Keep the sealed tasks of ``model`` in a folder: makes the store if there is none, appends what it lacks.

    A source that reads the input or the condition is kept as it is; one that reads the task gave each sealed task its row,
    and is built anew. Refused: a live task, a store of another model, and what could not be built again by its name.

    Args:
        model: all of whose tasks are sealed.
        folder: to write to.
        coding: of a new store, as in `Store.create`.

    """
    unsealed = live(instance(model, Modulated, "model"))
    if unsealed:
        raise RefusedError(
            f"a store holds sealed tasks; task {unsealed[0]} is live; call model.seal({unsealed[0]}) first"
        )
    if Store.exists(folder):
        store = Store.open(folder, classes=Classes.of_model(model))
        store.check(model)
    else:
        store = Store.create(folder, model, coding=coding)
    there = set(store.tasks())
    for task in model.tasks():
        if task not in there:
            store.append(model, task)
    store.describe()
    return store


def from_pretrained(
    folder: str | os.PathLike[str],
    *,
    target: Target | None = None,
    constructor: Callable[..., nn.Module] | None = None,
    example: Tensor | tuple[Tensor, ...] | None = None,
    tasks: Iterable[int] | None = None,
    classes: Iterable[Any] = (),
) -> Modulated:
    """The model of a store with its tasks at rest, all or those named in ``tasks``.

    Nothing that the folder names is imported or run: kinds and sources are neuromod's own or those that are passed, and so
    is the frozen network. Its fingerprint is checked.

    Args:
        folder: a store (`save_pretrained`, `Store.create`).
        target: the frozen network; for a random one ``constructor`` may stand in its place.
        constructor: the function that the recorded recipe calls to draw a random network again.
        example: inputs to probe that network with; by default zeros of the recorded shapes.
        tasks: ids to load, in this order; None loads all.
        classes: kinds, sources, and functions that make a body, of your own: ``[MyKind, my_body]``. A store names them, and is
            refused without them.

    """
    store = Store.open(folder, classes=classes)
    if target is None:
        sites = [site for record in store.config.modulators for site in record.sites]
        target = store.config.target.build(constructor, example, sites)
    elif constructor is not None or example is not None:
        raise RefusedError("a target is passed or drawn; got target= beside constructor= or example=; drop one")
    if not isinstance(target, Target):
        raise RefusedError(
            f"target= is the frozen network as a Target; got {shown(type(target).__name__)}; pass Target(net, example)"
        )
    store.config.target.check(target)
    model = store.config.build(target, store.shared())
    store.load(model, tasks)
    return model
