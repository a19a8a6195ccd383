"""The README's ten lines work unchanged on networks of torchvision: a mask, an affine and a gate kind on each."""

import doctest
from pathlib import Path

import pytest
import torch
import torchvision

from neuromod import Affine, Gate, Hypernet, Modulated, Modulator, Table, Target, Threshold
from neuromod.target.recipe import kaiming_normal

README = Path(__file__).parent.parent / "README.md"


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


@pytest.mark.parametrize(("name", "lines"), [("conditioning", 20), ("bank", 15), ("random_networks", 12), ("meta", 14)])
def test_the_pages_of_the_docs(name: str, lines: int) -> None:
    page = README.parent / f"docs/{name}.md"
    test = doctest.DocTestParser().get_doctest(page.read_text(), {}, page.name, str(page), 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        failed, tried = doctest.DocTestRunner(verbose=False).run(test)
    assert failed == 0
    assert tried > lines
