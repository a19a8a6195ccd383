"""Methods of transfer, several sets of images at once: one batch that mixes them trains what each alone would."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tasks.config.build import experiment
from tasks.config.load import experiments, load
from tasks.continual.learners.base import sum_over_tasks
from tasks.runs.bench import Bench
from tasks.runs.seeds import seeds
from tests.images import write

ALL = [name for name in experiments() if name.startswith("methods/")]
# What a hypernetwork shares is moved by every task: its tasks are one training, and not four.
ALONE = [name for name in ALL if name != "methods/cnaps"]
SETS = {"one": 10, "two": 7, "three": 4, "four": 2}


def learned(name: str, root: Path, batches: list[list[tuple[Tensor, Tensor, Tensor]]]) -> dict[str, Tensor]:
    """All parameters of a method's learner after a step of Adam for each batch, each group of batches by an optimiser of its own."""
    given = [f"experiment={name}", "target=custom", "target.constructor=tasks.networks:ResNet"]
    given += ["target.kwargs={depth: 8, width: 4}", "outputs=10", f"data.root='{root}'", "data.name=one", "data.rgb=8"]
    given += ["stream.tasks=4", "stream.others=[two, three, four]", "device=cpu"]
    config = load(given)
    subject: Any = experiment(config["run"])
    bench = Bench(seeds(0), data=config["data"])
    learner = subject.learn(bench)
    given = learner.trained_on(subject.tasks(bench))[0].train.images
    # What is trained on features, (N, F), gets some of these numbers.
    size = given.shape[1] if given.ndim == 2 else None
    learner = learner.double().train()
    for group in batches:
        optimizer = torch.optim.Adam(learner.parameters(), lr=1e-2)
        for x, y, ids in group:
            optimizer.zero_grad(set_to_none=True)
            x = x if size is None else x.flatten(1)[:, :size]
            sum_over_tasks(cross_entropy(learner(x, ids), y, reduction="none"), ids).backward()
            optimizer.step()
    return {key: value.detach() for key, value in learner.named_parameters()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name, classes in SETS.items():
        write(root, name, classes=classes)
    return root


@pytest.mark.parametrize("name", ALONE)
def test_a_batch_of_four_sets_trains_each_as_alone(name: str, root: Path) -> None:
    rng = torch.Generator().manual_seed(3)
    steps = []
    for _ in range(3):
        ids = torch.arange(4).repeat_interleave(6)[torch.randperm(24, generator=rng)]
        x = torch.randn(24, 3, 8, 8, generator=rng, dtype=torch.float64)
        y = torch.stack([torch.randint(list(SETS.values())[t], (), generator=rng) for t in ids.tolist()])
        steps.append((x, y, ids))
    alone = [[(x[ids == t], y[ids == t], ids[ids == t]) for x, y, ids in steps] for t in range(4)]
    together, apart, before = learned(name, root, [steps]), learned(name, root, alone), learned(name, root, [])
    moved = 0
    for key, value in together.items():
        torch.testing.assert_close(value, apart[key], rtol=1e-5, atol=1e-9)
        moved += int(not torch.equal(value, before[key]))
    assert moved >= len(before) // 2


class Transformer(nn.Module):
    """A small vision transformer for images (C, H, W): rows of pixels as tokens.

    Args:
        shape: (C, H, W).
        outputs: classes.

    """

    def __init__(self, shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        channels, _, width = shape
        self.read = nn.Linear(channels * width, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, outputs)."""
        logits: Tensor = self.head(self.norm(self.layer(self.read(x.transpose(1, 2).flatten(2)))).mean(1))
        return logits


def test_norms_of_a_transformer_are_its_layer_norms(root: Path) -> None:
    """And no statistics: it has none (LayerNorm alone, Zhao et al. 2024)."""
    given = ["experiment=methods/norms", "target=custom", f"target.constructor={__name__}:Transformer", "device=cpu"]
    config = load([*given, "target.kwargs={}", f"data.root='{root}'", "data.name=one", "data.rgb=8"])
    subject: Any = experiment(config["run"])
    learner = subject.learn(Bench(seeds(0), data=config["data"]))
    named = learner.model.named_modulators()
    assert set(named) == {"head", "affine"}
    assert {site.module for site in named["affine"].sites} == {"layer.norm1", "layer.norm2", "norm"}
    assert learner.costs().parameters_per_task == 3 * 2 * 16 + 10 * 16 + 10
