"""Split batches whose parts are small: one sample, too few for statistics, or no batch at all."""

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, Statistics, Table, Target, Threshold
from tests.refusals import refuses
from tests.traps.common import close, draw, filled, moved

X = draw(6, 4)


class Squeezed(nn.Module):
    """One number per sample, and whether it is above nought, as ``squeeze()`` leaves them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.head(torch.tanh(self.layer(x)))
        return h, h.squeeze(), h.expand(-1, 3).squeeze() > 0


@pytest.mark.parametrize("ids", [[0, 1, 2, 0, 1, 0], [2, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 2]])
def test_a_batch_axis_that_a_single_sample_loses(ids: list[int]) -> None:
    target = Target(filled(Squeezed()), X)
    model = moved(Modulated(target, Modulator(Threshold(), Table(3), target.weights("*"), seed=0)))
    found = model(X, task=ids)
    assert [tuple(part.shape) for part in found] == [(6, 1), (6,), (6, 3)]
    for i, task in enumerate(ids):
        alone = model(X[i : i + 1], task=task)
        close(found[0][i], alone[0][0])
        close(found[1][i], alone[1])
        assert torch.equal(found[2][i], alone[2])
    # As many samples as tasks: each is a batch of one.
    close(model(X[:2], task=[0, 1])[1], torch.stack([model(X[i : i + 1], task=i)[1] for i in (0, 1)]))


def test_too_few_samples_of_a_task_for_statistics_of_the_batch() -> None:
    target = Target(filled(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))), X, norm="batch")
    statistics = Modulator(Statistics(), Table(3), target.statistics(), seed=0)
    model = Modulated(target, statistics, Modulator(Affine(), Table(3), target.norms(), seed=0)).train()
    model(X, task=[0, 0, 1, 1, 2, 2])
    with refuses("statistics are taken over the samples that a task has in a batch", "give it two or more"):
        model(X, task=[0, 0, 0, 1, 1, 2])


def test_a_nested_tensor_is_no_batch() -> None:
    target = Target(filled(nn.Linear(4, 3)), X)
    model = Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0))
    with refuses("an input is a tensor with the batch on axis 0", "a nested tensor"):
        model(torch.nested.nested_tensor([X[:2], X[2:]], layout=torch.jagged), task=0)
