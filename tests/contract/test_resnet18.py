"""torchvision's ResNet-18 at 32x32, with sources that do not need a row of its size for each task."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision

from neuromod import calibrate
from tests.contract.cells import CONFIGS, Cell
from tests.contract.laws import close

SHARED = {"_target_": "neuromod.LowRank", "rank": 2, "tasks": 1}
CHUNKED = {"_target_": "neuromod.Hypernet", "reads": "task", "tasks": 1, "hidden": 8, "chunk": 4096}
WEIGHTS = {"weights": ["layer4.1.*", "fc"]}
KINDS = {
    "threshold": ("neuromod.Threshold", {}, WEIGHTS),
    "topk": ("neuromod.TopK", {}, WEIGHTS),
    "bernoulli": ("neuromod.Bernoulli", {}, WEIGHTS),
    "affine": ("neuromod.Affine", {}, {"norms": "*"}),
    "gate": ("neuromod.Gate", {"form": "doubled"}, {"outputs": "type:torch.nn.ReLU", "exclude": ["layer*"]}),
    "generated": ("neuromod.Generated", {}, {"weights": ["layer1.*"]}),
    "head": ("neuromod.Head", {}, {"head": None}),
    "lowrankdelta": ("neuromod.LowRankDelta", {"rank": 2}, {"weights": "*"}),
    "rank1": ("neuromod.Rank1", {}, {"weights": "*"}),
}
IN_TEST = {"affine": SHARED, "generated": CHUNKED, "lowrankdelta": SHARED}


def config(kind: str, source: dict[str, Any]) -> dict[str, Any]:
    path, options, sites = KINDS[kind]
    return {kind: {"kind": {"_target_": path, **options}, "source": source, "sites": sites}}


def resnet(chosen: dict[str, Any]) -> Cell:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = torchvision.models.resnet18(num_classes=7).double().eval()
        x = torch.randn(16, 3, 32, 32, dtype=torch.float64)
    return Cell(chosen, net, x, torch.zeros(16, 4))


def obeys(made: Cell) -> None:
    """Mixed equals singles, the target stands, a modulation is seen."""
    model = made.model().eval()
    ids = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    mixed = made.call(model, ids)
    close(mixed, torch.cat([made.call(model, t, slice(4 * t, 4 * t + 4)) for t in range(4)]))
    assert float((mixed - model.target(made.x)).detach().abs().max()) > 1e-6
    mixed.sum().backward()
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in model.parameters())
    model.target.verify()


@pytest.mark.parametrize("kind", IN_TEST)
def test_shared_and_chunked_sources(kind: str) -> None:
    obeys(resnet(config(kind, IN_TEST[kind])))


@pytest.mark.check
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in IN_TEST])
def test_every_kind(kind: str) -> None:
    obeys(resnet(config(kind, CHUNKED if kind == "head" else SHARED)))


@pytest.mark.check
def test_statistics_of_each_task() -> None:
    made = resnet(CONFIGS["bn_only_statistics"])
    model = replace(made).model().eval()
    for task in range(4):
        calibrate(model, task, made.x + task)
    ids = [0, 1, 2, 3] * 4
    mixed = made.call(model, ids)
    close(mixed, torch.cat([made.call(model, t, [i]) for i, t in enumerate(ids)]))
