"""The house rules, read off the source: floors, no hidden state, no pickle, nothing of one machine."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neuromod
from neuromod import inference

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("errors", "seeds", "modes"),
    ("analysis",),
    ("target",),
    ("kinds",),
    ("sources",),
    ("modulator",),
    ("composition",),
    ("batches",),
    ("modulated",),
    ("bake", "training", "bank"),
    ("inference",),
    ("meta",),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MUTATORS = {"append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault", "add", "discard"}


def files(*packages: str) -> list[Path]:
    return sorted(p for package in packages for p in (ROOT / package).rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in the file; of ``from a import b`` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def called(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file with the text of what is called."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def rooms() -> dict[str, list[Path]]:
    """Files of neuromod by the room they belong to; the front door (``__init__``) may know everybody."""
    found: dict[str, list[Path]] = {}
    for path in files("neuromod"):
        room = path.relative_to(ROOT / "neuromod").parts[0].removesuffix(".py")
        if room != "__init__":
            found.setdefault(room, []).append(path)
    return found


def test_every_room_has_a_floor() -> None:
    assert set(rooms()) == set(FLOOR)


@pytest.mark.parametrize("room", FLOOR)
def test_nothing_imports_from_a_higher_floor(room: str) -> None:
    for path in rooms()[room]:
        known = {name.split(".")[1] for name in imports(path) if name.startswith("neuromod.")}
        # ``from neuromod import skeleton`` names a room, ``from neuromod import Target`` the front door.
        assert known <= set(FLOOR), f"{name_of(path)} imports through the front door: {known - set(FLOOR)}"
        above = {other for other in known if FLOOR[other] > FLOOR[room]}
        assert not above, f"{name_of(path)} imports {above}"


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("neuromod", {"tasks", "benchmarks", "tests", "hydra", "omegaconf", "torchvision", "matplotlib", "yaml"}),
        ("tasks", {"benchmarks", "tests"}),
        ("benchmarks", {"tests"}),
    ],
)
def test_who_may_know_whom(package: str, forbidden: set[str]) -> None:
    for path in files(package):
        assert not {name.split(".")[0] for name in imports(path)} & forbidden, name_of(path)


def test_one_file_substitutes() -> None:
    users = [name_of(p) for p in files("neuromod") if any("functional_call" in name for name, _ in called(p))]
    assert users == ["neuromod/target/substitute.py"]
    importers = [name_of(p) for p in files("neuromod") if any("functional_call" in name for name in imports(p))]
    assert importers == ["neuromod/target/substitute.py"]


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
            if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item) for item in node.items)
            for call in ast.walk(node)
        }
        for node in nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func) in seeders:
                assert id(node) in forked, name_of(path)
                assert name_of(path) == "neuromod/target/recipe.py"


def test_no_error_is_swallowed() -> None:
    for path in files("neuromod", "tasks", "benchmarks"):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = "" if node.type is None else ast.unparse(node.type)
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
        for name, call in called(path):
            assert name not in ("torch.load", "torch.save"), f"{name_of(path)}:{call.lineno}"
            assert not any(k.arg == "allow_pickle" for k in call.keywords), f"{name_of(path)}:{call.lineno}"


def test_pins_name_no_place() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()
    pinned = [line.partition(";")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if line.strip()]
    assert all(re.fullmatch(r"[a-z0-9._-]+==[0-9][^\s/@]*\s*", line) for line in pinned)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="which files are tracked is known in a clone only")
def test_no_tracked_file_names_a_folder_of_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    names = [name for name in listed.decode().split("\0") if name]
    assert "neuromod/__init__.py" in names
    place = re.compile(rb"(^|[^a-z.])/(home|root|work)/", re.MULTILINE)
    there = [name for name in names if (ROOT / name).is_file()]
    assert [name for name in there if place.search((ROOT / name).read_bytes())] == []


def test_importing_has_no_effect() -> None:
    code = """
import sys, torch
state, dtype, threads = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
import neuromod, neuromod.bank.packed, neuromod.inference
assert torch.equal(state, torch.get_rng_state())
assert torch.get_default_dtype() is dtype and torch.get_num_threads() == threads
heavy = {"torchvision", "hydra", "omegaconf", "matplotlib", "PIL", "tasks", "numba"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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


@pytest.mark.parametrize("path", files("neuromod"), ids=name_of)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 350
