"""Where a task starts that comes after others."""

import pytest
import torch

from neuromod import Modulated, Modulator, Recipe, Table, Target, Threshold
from tasks.continual.transfer import Transfer, steps_to
from tasks.errors import UserError
from tasks.networks import mlp


def model() -> Modulated:
    net = Recipe(mlp, {"shape": (6,), "outputs": 5, "hidden": (8,)}, seed=1).build()
    target = Target(net, torch.zeros(2, 6))
    return Modulated(target, Modulator(Threshold(), Table(4), target.weights("*"), seed=0))


def scores(network: Modulated, task: int) -> dict[str, torch.Tensor]:
    own = network.named_modulators()["threshold"].source.own(task)
    return {key: value.detach().clone() for key, value in own.items()}


@pytest.mark.parametrize("form", ["none", "scores", "masks"])
def test_a_start_is_the_mean_of_what_was_learned_at_the_norm_of_a_start(form: str) -> None:
    network, begun = model(), Transfer(form)
    start = {task: scores(network, task) for task in range(3)}
    begun.begin(network, 0)
    assert all(torch.equal(a, b) for a, b in zip(scores(network, 0).values(), start[0].values(), strict=True))
    for task in (0, 1):
        begun.end(network, task)
    begun.begin(network, 2)
    for key, found in scores(network, 2).items():
        a, b = start[0][key], start[1][key]
        mean = {"none": start[2][key], "scores": a + b, "masks": (a >= 0).float() + (b >= 0).float() - 1}[form]
        expected = mean * start[2][key].norm() / mean.norm()
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_steps_are_counted_to_the_first_mean_that_is_high_enough() -> None:
    def lines(task: int, first: int, values: list[float]) -> list[dict[str, object]]:
        return [
            {"phase": "train", "task": task, "step": first + 10 * (i + 1), "accuracy": v} for i, v in enumerate(values)
        ]

    log = [*lines(0, 0, [0.5, 0.9, 0.9, 0.9]), *lines(1, 40, [0.8, 1.0, 0.7, 1.0]), *lines(2, 80, [0.1] * 4)]
    log.append({"phase": "sealed", "task": 0, "step": 40, "accuracy": 1.0})
    assert steps_to(log, 0.9, plan_steps=40, readings=2) == {"tasks": [30, 20, None], "mean": 30.0}
    assert steps_to(lines(0, 0, [1.0, 1.0]), 0.9, plan_steps=20, readings=2) == {"tasks": [20], "mean": None}


def test_a_form_must_be_known() -> None:
    with pytest.raises(UserError, match="got 'score'; nearest: 'scores'"):
        Transfer("score")
