"""What others may ask of a model: its skeleton and its readers by name, a kind by its properties; nothing private."""

import ast

import pytest
from torch import nn

from neuromod import Modulated
from neuromod.target.skeleton import Skeleton
from tests.house.source import ROOT, files, name_of, tree

INSIDE = ("neuromod/modulated.py", "neuromod/target/skeleton.py")
OUTSIDE = [path for path in files("neuromod", "tasks", "benchmarks") if name_of(path) not in INSIDE]


def private(cls: type) -> set[str]:
    """Names with one leading underscore that a class or its file adds to those of `nn.Module`."""
    path = next(ROOT / place for place in INSIDE if place.endswith(f"{cls.__name__.lower()}.py"))
    nodes = list(ast.walk(tree(path)))
    own = {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    own |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"}
    own |= {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {name for name in own if name[:1] == "_" and name[:2] != "__" and name.isidentifier()} - set(
        dir(nn.Module())
    )


def reached(parsed: ast.Module, names: set[str]) -> list[str]:
    """Attributes of these names that are read of something other than the file's own objects."""
    return [
        ast.unparse(node)
        for node in ast.walk(parsed)
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) not in ("self", "cls")
    ]


def test_the_private_names_are_found() -> None:
    assert {"_cached", "_one_row", "_composed"} <= private(Modulated)
    assert "_anatomy" in private(Skeleton)
    assert reached(ast.parse("model._cached.clear()"), private(Modulated)) == ["model._cached"]


@pytest.mark.parametrize("path", OUTSIDE, ids=name_of)
def test_nobody_reaches_into_a_model(path: object) -> None:
    assert reached(tree(path), private(Modulated) | private(Skeleton) | {"_skeleton", "_gathers"}) == []  # type: ignore[arg-type]


def by_class(parsed: ast.Module) -> list[str]:
    """Places that ask a kind for its class, and those that read the modulators as a submodule."""
    found = []
    for node in ast.walk(parsed):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            what = ast.unparse(node.args[0])
            found += [ast.unparse(node)] if what == "kind" or what.endswith(".kind") else []
        if isinstance(node, ast.Attribute) and node.attr == "modulators":
            owner = ast.unparse(node.value)
            found += [ast.unparse(node)] if owner.rpartition(".")[2] in ("model", "modulated", "twin") else []
    return found


def test_asking_for_a_class_is_found() -> None:
    assert by_class(ast.parse("isinstance(m.kind, Mask)")) == ["isinstance(m.kind, Mask)"]
    assert by_class(ast.parse("self.model.modulators.values()")) == ["self.model.modulators"]


@pytest.mark.parametrize("package", ["neuromod", "benchmarks"])  # and "tasks", once its measures ask by properties
def test_kinds_are_asked_by_their_properties(package: str) -> None:
    wrong = {name_of(p): by_class(tree(p)) for p in files(package) if "kinds" not in p.parts}
    assert {path: found for path, found in wrong.items() if found} == {}
