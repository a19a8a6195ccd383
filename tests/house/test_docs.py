"""What is public is listed and documented, and every file says what it is."""

import importlib
import inspect
import pkgutil

import pytest

import neuromod
from neuromod import inference


def test_the_front_door_lists_what_it_shows() -> None:
    public = {name for name, value in vars(neuromod).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert public == set(neuromod.__all__)
    assert list(neuromod.__all__) == sorted(neuromod.__all__)


@pytest.mark.parametrize(
    "thing", [*(f"neuromod.{n}" for n in neuromod.__all__), *(f"neuromod.inference.{n}" for n in inference.__all__)]
)
def test_what_is_public_is_documented(thing: str) -> None:
    module, _, name = thing.rpartition(".")
    shown = getattr(importlib.import_module(module), name)
    assert vars(shown)["__doc__"] if inspect.isclass(shown) else shown.__doc__
    for part in vars(shown) if inspect.isclass(shown) else ():
        method = getattr(shown, part)
        if part[0] != "_" and (callable(method) or isinstance(method, property)) and not inspect.isclass(method):
            assert inspect.getdoc(method), part  # a kind's method inherits its words


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(neuromod.__path__, "neuromod.")])
def test_every_file_says_what_it_is(name: str) -> None:
    assert importlib.import_module(name).__doc__
