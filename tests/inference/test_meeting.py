"""Task inference in networks whose samples meet, and in those that `torch.vmap` can't run."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuromod import Modulated, Modulator, Table, Target, Threshold
from neuromod.inference import InferenceRule, brute_force, entropy, infer, verify
from tests.inference.test_inference import close, draw
from tests.refusals import refuses

METHODS = ("one_shot", "halving", "brute_force", "verified")
TASKS = (0, 1, 2)


class Net(nn.Module):
    """A linear layer, and what happens in front of it."""

    def __init__(self, front: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.layer, self.front = nn.Linear(4, 3, dtype=torch.float64), front
        with torch.no_grad():
            self.layer.weight.copy_(draw(3, 4, seed=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.front(x))


class Gru(Net):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 4, dtype=torch.float64)
        with torch.no_grad():
            for seed, parameter in enumerate(self.rnn.parameters()):
                parameter.copy_(draw(*parameter.shape, seed=seed))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.rnn(x.unsqueeze(0))[0][0])


def centred(x: Tensor) -> Tensor:
    return x - x.mean(0)


def counted(x: Tensor) -> Tensor:
    """Reads a number of the batch, which torch.vmap can't, and does nothing with it."""
    return torch.tanh(x) if x.isfinite().all().item() else x


def chosen(x: Tensor) -> Tensor:
    """Works on the rows of some samples alone, as experts do."""
    some = x[:, 0] > 0
    h = torch.zeros_like(x)
    h[some] = torch.tanh(x[some])
    return h


def masked(net: nn.Module) -> Modulated:
    target = Target(net, draw(6, 4, seed=9))
    return Modulated(target, Modulator(Threshold(), Table(3), target.weights("layer.weight"), seed=0)).eval()


def slow_scores(model: Modulated, x: Tensor) -> Tensor:
    """``-dH/da`` of one batch at the superposition of its tasks, by autograd over the weights of the mixture."""
    alphas = torch.full((len(TASKS),), 1 / len(TASKS), dtype=torch.float64, requires_grad=True)
    weights = [model.edits(task=task)["layer.weight"].detach() for task in TASKS]
    mixed = sum(a * w for a, w in zip(alphas, weights, strict=True))
    logits = torch.func.functional_call(model.target.pristine, {"layer.weight": mixed}, (x,))
    (found,) = torch.autograd.grad(entropy(logits).sum(), alphas)
    return -found


@pytest.mark.parametrize("make", [lambda: Net(centred), lambda: Net(counted), lambda: Net(chosen), Gru])
def test_groups_are_batches_of_their_own(make: Callable[[], nn.Module]) -> None:
    model, x = masked(make()), draw(7, 4, seed=3)
    for group in (2, 3):
        parts = x[: 7 // group * group].split(group)
        found = infer(model, x, InferenceRule("one_shot"), group=group).scores
        close(found, torch.stack([slow_scores(model, part) for part in parts]))
        tried = infer(model, x, InferenceRule("brute_force"), group=group).scores
        each = [torch.stack([-entropy(model(part, task=t)).sum() for t in TASKS]) for part in parts]
        close(tried, torch.stack(each))
        assert torch.equal(infer(model, x, InferenceRule("verified", best=3), group=group).scores, tried)
        halved = infer(model, x, InferenceRule("halving"), group=group).scores
        assert torch.equal(
            halved, torch.cat([infer(model, p, InferenceRule("halving"), group=group).scores for p in parts])
        )


@pytest.mark.parametrize("make", [lambda: Net(counted), lambda: Net(chosen), Gru])
@pytest.mark.parametrize("method", METHODS)
def test_single_inputs_one_after_the_other(make: Callable[[], nn.Module], method: str) -> None:
    model, x = masked(make()), draw(5, 4, seed=3)
    whole = infer(model, x, InferenceRule(method)).scores
    assert torch.allclose(
        whole, torch.cat([infer(model, x[i : i + 1], InferenceRule(method)).scores for i in range(5)])
    )


@pytest.mark.parametrize("method", METHODS)
def test_single_inputs_where_samples_meet_are_refused(method: str) -> None:
    model = masked(Net(centred))
    with refuses("samples of this network meet", "group=1 for 5 inputs", "pass group=5"):
        infer(model, draw(5, 4), InferenceRule(method))


def test_a_task_is_tried_on_all_inputs_where_samples_meet() -> None:
    model, x = masked(Net(centred)), draw(4, 4)
    with refuses("samples of this network meet", "task 0 is likely for 2 of 4", "brute_force"):
        verify(model, x, torch.tensor([[0], [1], [0], [1]]), tasks=TASKS)
    close(
        verify(model, x, torch.zeros(4, 1, dtype=torch.long), tasks=TASKS)[:, 0], brute_force(model, x, tasks=[0])[:, 0]
    )


@pytest.mark.parametrize(
    ("end", "got"),
    [
        (lambda y: y.T, "(3, 6), the batch on axis 1"),
        (lambda y: y.unsqueeze(1), "(6, 1, 3), the batch on axis 0"),
        (lambda y: (y, y), "2 tensors"),
        (lambda y: {"logits": y}, "1 tensors"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_outputs_that_are_no_logits(end: Callable[[Tensor], object], got: str, method: str) -> None:
    class Ended(Net):
        def forward(self, x: Tensor) -> Tensor:
            return end(super().forward(x))  # type: ignore[return-value]

    with refuses("tasks are inferred from logits (B, classes)", got, "wrap it"):
        infer(masked(Ended()), draw(6, 4), InferenceRule(method))
