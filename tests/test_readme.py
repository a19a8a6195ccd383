"""README and docs do what they say: their examples run, their commands compose, their links and anchors lead somewhere."""

import doctest
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision

from neuromod import Affine, Gate, Hypernet, Modulated, Modulator, Table, Target, Threshold
from neuromod.target.recipe import kaiming_normal
from tasks.commands.sweep import expand
from tasks.config.load import load

README = Path(__file__).parent.parent / "README.md"
PAGES = (README, README.parent / "CONTRIBUTING.md", *sorted((README.parent / "docs").glob("*.md")))


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        pytest.param("resnet18", marks=pytest.mark.check),
        pytest.param("vit_b_16", marks=pytest.mark.check),
    ],
)
def test_ten_lines(name: str) -> None:
    text = README.read_text().replace("models.resnet18()", f"models.{name}()")
    names: dict[str, object] = {}
    test = doctest.DocTestParser().get_doctest(text, names, name, str(README), 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        failed, tried = doctest.DocTestRunner(verbose=False).run(test, clear_globs=False)
    assert (failed, tried >= 9) == (0, True)
    plain, net, model = (test.globs[key] for key in ("plain", "net", "model"))
    assert list(plain.state_dict()) == list(net.state_dict())
    model.target.verify()
    mixed_equals_singles(name, test.globs["x"])


@torch.no_grad()
def mixed_equals_singles(name: str, x: torch.Tensor) -> None:
    """On drawn weights: a random vision transformer starts with a head of zeros, a random mobilenet puts out 1e-9."""
    net = getattr(torchvision.models, name)()
    rng = torch.Generator().manual_seed(1)
    for weight in net.parameters():
        if weight.ndim > 1:
            weight.copy_(kaiming_normal(weight, rng))
    target = Target(net, x)
    masks = Modulator(Threshold(), Table(tasks=2), target.weights("*"), seed=0)
    affine = Modulator(Affine("uniform"), Table(tasks=2), target.norms(), seed=0)
    gates = Modulator(Gate("doubled"), Hypernet("input", hidden=8), target.norms(), seed=0)
    model = Modulated(target, masks, affine, gates).eval()
    together = model(x, task=torch.tensor([0, 1, 1, 0]))
    alone = torch.stack([model(x[i : i + 1], task=t)[0] for i, t in enumerate([0, 1, 1, 0])])
    size = float(alone.abs().max())
    assert float((together - alone).abs().max()) < 1e-4 * size
    assert float((together - model(x, task=torch.tensor([1, 0, 0, 1]))).abs().max()) > 1e-2 * size


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("conditioning", 20),
        ("bank", 15),
        ("random_networks", 12),
        ("meta", 14),
        ("transfer", 10),
        ("descriptions", 15),
        ("sparse", 12),
        ("growth", 11),
        ("tickets", 16),
        ("reservoirs", 15),
        ("generators", 24),
    ],
)
def test_the_pages_of_the_docs(name: str, lines: int) -> None:
    page = README.parent / f"docs/{name}.md"
    test = doctest.DocTestParser().get_doctest(page.read_text(), {}, page.name, str(page), 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        failed, tried = doctest.DocTestRunner(verbose=False).run(test)
    assert failed == 0
    assert tried > lines


# What stands for something of the reader's own; the examples of CONTRIBUTING are run in tests/house/test_sixth_family.py.
PLACEHOLDERS = ("package.module", "NAME", "PATH", "my/configs", "rigl.RigL", "signflip")


def texts() -> Iterator[tuple[str, str]]:
    """Every page, notebook and config whose words may hold a command, by its name."""
    root = README.parent
    yield from ((page.relative_to(root).as_posix(), page.read_text()) for page in PAGES)
    yield from ((path.relative_to(root).as_posix(), path.read_text()) for path in (root / "configs").rglob("*.yaml"))
    for path in (root / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        yield path.relative_to(root).as_posix(), "\n".join("".join(cell["source"]) for cell in cells)


def commands() -> list[tuple[str, str]]:
    """Page and overrides of every ``python -m tasks train`` line without a placeholder."""
    found = [
        (name, line.strip())
        for name, text in texts()
        for line in re.findall(r"python -m tasks train ([^`\n#]+)", text)
        if "=" in line
        and "..." not in line
        and not any(word in line for word in PLACEHOLDERS)
        # That each config composes by itself is held by test_configs.
        and not (name.startswith("configs/") and re.fullmatch(r"experiment=\S+( seed=0)?", line.strip()))
    ]
    return list(dict.fromkeys(found))


def test_every_command_that_is_written_composes() -> None:
    asked = commands()
    assert {"README.md", "docs/transfer.md"} <= {name for name, _ in asked}
    assert len(asked) > 20
    wrong = []
    for name, line in asked:
        words = [word for word in shlex.split(line) if "=" in word]
        try:
            for overrides in expand(words):
                load(overrides)
        except ValueError as error:
            wrong.append(f"{name}: {line}: {error}")
    assert not wrong, "\n".join(wrong)


def test_every_experiment_that_is_named_exists() -> None:
    for name, text in texts():
        for experiment in re.findall(r"`experiment=([\w/]+)`", text):
            assert (README.parent / "configs/experiment" / f"{experiment}.yaml").is_file(), f"{name}: {experiment}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link
