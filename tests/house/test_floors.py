"""Who may know whom: floors, no circle between files, one file that substitutes."""

from pathlib import Path

import pytest

from tests.house.source import ROOT, calls, files, imports, name_of

FLOORS = (
    ("errors", "seeds", "modes"),
    ("arguments",),
    ("analysis",),
    ("target",),
    ("kinds",),
    ("sources",),
    ("modulator",),
    ("composition",),
    ("batches", "refusals"),
    ("modulated",),
    ("bake", "training", "bank"),
    ("inference", "rewiring"),
    ("meta", "tickets"),
    ("reservoirs",),
)
HOUSE = (
    ("errors",),
    ("config",),
    ("runs",),
    ("data", "report"),
    ("ledger", "networks", "folders"),
    ("experiment",),
    ("continual", "generator", "meta", "reservoir", "tickets"),
    ("sparse", "transfer"),
    ("commands",),
    ("__main__",),
)


def floors(package: str) -> dict[str, int]:
    """The floor of every room of a package."""
    levels = {"neuromod": FLOORS, "tasks": HOUSE}[package]
    return {name: floor for floor, names in enumerate(levels) for name in names}


def rooms(package: str) -> dict[str, list[Path]]:
    """Files of a package by the room they belong to; the front door (``__init__``) may know everybody."""
    found: dict[str, list[Path]] = {}
    for path in files(package):
        room = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        if room != "__init__":
            found.setdefault(room, []).append(path)
    return found


@pytest.mark.parametrize("package", ["neuromod", "tasks"])
def test_every_room_has_a_floor(package: str) -> None:
    assert set(rooms(package)) == set(floors(package))


def test_the_house_of_experiments_has_few_rooms() -> None:
    assert len(rooms("tasks")) <= 18


@pytest.mark.parametrize(("package", "room"), [(p, room) for p in ("neuromod", "tasks") for room in floors(p)])
def test_nothing_imports_from_a_higher_floor(package: str, room: str) -> None:
    floor = floors(package)
    for path in rooms(package)[room]:
        known = {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")}
        # ``from neuromod import skeleton`` names a room, ``from neuromod import Target`` the front door.
        assert known <= set(floor), f"{name_of(path)} imports through the front door: {known - set(floor)}"
        # Rooms of one floor do not know one another: a family of experiments stands alone.
        above = {other for other in known if floor[other] >= floor[room] and other != room and package == "tasks"}
        above |= {other for other in known if floor[other] > floor[room]}
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
    users = [name_of(p) for p in files("neuromod") if any("functional_call" in name for name, _ in calls(p))]
    assert users == ["neuromod/target/substitute.py"]
    importers = [name_of(p) for p in files("neuromod") if any("functional_call" in name for name in imports(p))]
    assert importers == ["neuromod/target/substitute.py"]


def circle(package: str) -> list[str]:
    """Files of a package that import one another in a circle, or []; modules by dotted name."""
    names = {name_of(p).removesuffix(".py").replace("/", ".").removesuffix(".__init__"): p for p in files(package)}
    arrows = {name: {i for i in imports(path) if i in names and i != name} for name, path in names.items()}
    # Importing a.b runs a/__init__ first, but what its files import of it by full name is not an arrow to it.
    arrows = {name: {i for i in found if not name.startswith(f"{i}.")} for name, found in arrows.items()}
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        found = next((c for other in sorted(arrows[name]) if (c := walk(other, [*way, name]))), [])
        done.add(name)
        return found

    return next((c for name in sorted(names) if (c := walk(name, []))), [])


@pytest.mark.parametrize("package", ["neuromod", "tasks", "benchmarks"])
def test_no_files_import_one_another(package: str) -> None:
    assert circle(package) == []
