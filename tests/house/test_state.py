"""No hidden state: modules keep none, generators are explicit, errors are not swallowed, nothing is a pickle."""

import ast
from pathlib import Path

import pytest

from tests.house.source import calls, files, imports, name_of, tree

MUTATORS = {"append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault", "add", "discard"}


@pytest.mark.parametrize("path", files("neuromod"), ids=name_of)
def test_no_state_in_a_module(path: Path) -> None:
    parsed = tree(path)
    assert not any(isinstance(node, ast.Global) for node in ast.walk(parsed))
    assert not any(name.rpartition(".")[2] in ("cache", "lru_cache") for name in imports(path))
    constants = {
        target.id
        for node in parsed.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(parsed):
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            assert not (isinstance(node.value, ast.Name) and node.value.id in constants), ast.unparse(node)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            assert node.target.id not in constants, ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            owner = node.func.value
            assert not (isinstance(owner, ast.Name) and owner.id in constants), ast.unparse(node)


def test_the_global_generator_is_seeded_inside_a_fork_only() -> None:
    seeders = ("torch.manual_seed", "torch.random.manual_seed", "torch.seed", "random.seed", "np.random.seed")
    for path in files("neuromod", "tasks"):
        nodes = list(ast.walk(tree(path)))
        forked = {
            id(call)
            for node in nodes
            if isinstance(node, ast.With)
            and any("fork_rng" in ast.unparse(item) or "preserved" in ast.unparse(item) for item in node.items)
            for call in ast.walk(node)
        }
        for node in nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func) in seeders:
                assert id(node) in forked, name_of(path)
                assert name_of(path) == "neuromod/seeds.py"


def test_no_error_is_swallowed() -> None:
    for path in files("neuromod", "tasks", "benchmarks"):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = "" if node.type is None else ast.unparse(node.type)
            if name_of(path) == "neuromod/errors.py":  # what code of others raises is said in one line
                assert isinstance(node.body[-1], ast.Raise)
                continue
            assert caught not in ("", "Exception"), f"{name_of(path)}:{node.lineno}"
            if caught == "BaseException":  # to clean up, and then to pass on
                assert isinstance(node.body[-1], ast.Raise), f"{name_of(path)}:{node.lineno}"
                assert node.body[-1].exc is None


def test_nothing_reads_or_writes_pickles() -> None:
    for path in files("neuromod", "tasks"):
        assert not {name.split(".")[0] for name in imports(path)} & {
            "pickle",
            "cloudpickle",
            "dill",
            "shelve",
        }
        # joblib runs processes here; its files are pickles.
        from_joblib = [n for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and n.module == "joblib"]
        assert all({alias.name for alias in node.names} <= {"Parallel", "delayed"} for node in from_joblib)
        assert not any(isinstance(n, ast.Import) and n.names[0].name == "joblib" for n in ast.walk(tree(path)))
        for name, call in calls(path):
            assert name not in ("torch.load", "torch.save"), f"{name_of(path)}:{call.lineno}"
            assert not any(k.arg == "allow_pickle" for k in call.keywords), f"{name_of(path)}:{call.lineno}"
