"""Public functions, classes and methods say what each of their arguments is, where there are more than two.

What the functions of a file or of a folder have in common is said once, under ``Args:`` of that file or of the folder's
``__init__.py``.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.house.source import files, name_of, tree

# Words of a contract stand once, on the base class: what implements it inherits them.
INHERITED = {
    "neuromod/kinds": "neuromod/kinds/base.py",
    "neuromod/sources": "neuromod/sources/base.py",
    "neuromod/inference/predictors": "neuromod/inference/predictors/base.py",
}
Found = dict[str, tuple[list[str], str]]


def arguments(node: ast.FunctionDef) -> list[str]:
    """Names that a caller passes, ``*args`` and ``**options`` among them."""
    given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    given = given[1:] if given[:1] in (["self"], ["cls"]) else given
    starred = [a.arg for a in (node.args.vararg, node.args.kwarg) if a is not None]
    return [*given, *starred]


def public(parsed: ast.Module) -> Found:
    """Every public function, method and class of a file with its arguments and its docstring.

    A class has those of its ``__init__``, or its fields where it is a dataclass or a tuple of names.
    """
    found: Found = {}
    for node in parsed.body:
        if isinstance(node, ast.FunctionDef) and node.name[0] != "_":
            found[node.name] = (arguments(node), ast.get_docstring(node) or "")
        if not isinstance(node, ast.ClassDef) or node.name[0] == "_":
            continue
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        made = next((arguments(m) for m in methods if m.name == "__init__"), fields(node))
        found[node.name] = (made, ast.get_docstring(node) or "")
        for method in methods:
            if method.name[0] != "_" or method.name == "__call__":
                found[f"{node.name}.{method.name}"] = (arguments(method), ast.get_docstring(method) or "")
    return found


def fields(node: ast.ClassDef) -> list[str]:
    named = any("dataclass" in ast.unparse(d) for d in node.decorator_list)
    named = named or any(ast.unparse(base) == "NamedTuple" for base in node.bases)
    return [
        part.target.id
        for part in node.body
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and named
        if "ClassVar" not in ast.unparse(part.annotation) and "init=False" not in ast.unparse(part)
    ]


def described(docstring: str) -> set[str]:
    """Arguments that an ``Args:`` section has a line for."""
    _, _, section = docstring.partition("Args:\n")
    return {
        name for names in re.findall(r"^ {4}([\w, *]+):", section, re.MULTILINE) for name in re.split(r"[, *]+", names)
    }


def missing(found: Found, shared: Iterable[str] = ()) -> dict[str, list[str]]:
    """Per name the arguments that nothing describes: neither its docstring nor, for all of a file, ``shared``.

    A method is described where another class of the file describes one of its name, such as the protocol that it meets.
    """
    known = set(shared)
    lacking = {
        name: [a for a in names if a not in described(doc) | known]
        for name, (names, doc) in found.items()
        if len(names) > 2
    }
    whole = {name.partition(".")[2] for name, names in lacking.items() if "." in name and not names}
    return {name: names for name, names in lacking.items() if names and name.partition(".")[2] not in whole}


def shared(path: Path) -> set[str]:
    """Arguments that a file describes for all of its functions, and its folder for all of its files."""
    places = {path, path.parent / "__init__.py"}
    return set().union(*(described(ast.get_docstring(tree(place)) or "") for place in places if place.exists()))


def test_a_missing_argument_is_found() -> None:
    source = '''
def f(a, b, *, c):
    """One line.

    Args:
        a, b: two of three.

    """
'''
    assert missing(public(ast.parse(source))) == {"f": ["c"]}
    assert missing(public(ast.parse(source)), {"c"}) == {}
    assert missing(public(ast.parse(source.replace("a, b:", "a, b, c:")))) == {}


def test_a_method_is_described_by_its_protocol() -> None:
    source = '''
class Protocol:
    def f(self, a, b, c):
        """One line.

        Args:
            a, b, c: three.

        """

class Mine:
    def f(self, a, b, c):
        """As of the protocol."""
'''
    assert missing(public(ast.parse(source))) == {}
    assert missing(public(ast.parse(source.replace("a, b, c: three", "a: one")))) == {
        "Protocol.f": ["b", "c"],
        "Mine.f": ["a", "b", "c"],
    }


def contract(place: str) -> set[str]:
    """Methods of the base classes of a folder: `Kind.edits` is described once, for every kind."""
    base = next((base for folder, base in INHERITED.items() if place.startswith(folder) and place != base), None)
    if base is None:
        return set()
    return {name.partition(".")[2] for name in public(tree(next(p for p in files("neuromod") if name_of(p) == base)))}


CHECKED = files("neuromod", "tasks")


@pytest.mark.parametrize("path", CHECKED, ids=name_of)
def test_every_argument_is_described(path: Path) -> None:
    known = contract(name_of(path))
    found = {n: said for n, said in public(tree(path)).items() if n.partition(".")[2] not in known or "." not in n}
    assert missing(found, shared(path)) == {}


@pytest.mark.parametrize("path", CHECKED, ids=name_of)
def test_everything_public_has_a_docstring(path: Path) -> None:
    known = contract(name_of(path))
    found = public(tree(path))
    assert [n for n, (_, doc) in found.items() if not doc and n.partition(".")[2] not in {*known, "forward"}] == []
