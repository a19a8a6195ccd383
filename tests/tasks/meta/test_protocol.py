"""The sequential test against plain loops over every step."""

import warnings
from pathlib import Path

import pytest
import torch

from neuromod.meta import LinearHead
from tasks.data.load import load as load_images
from tasks.errors import UserError
from tasks.meta.pools import pools
from tasks.meta.protocol import (
    Encoded,
    Protocol,
    Sweep,
    choose_rate,
    drawn_orders,
    fresh_head,
    meta_test,
    right,
    trajectories,
)
from tests.meta import slow_heads


def encoded(classes: int = 5, each: int = 4) -> Encoded:
    return Encoded(torch.randn(classes, each, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64), 3)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_trajectory_is_one_pass_class_after_class(optimiser: str) -> None:
    some, orders = encoded(), drawn_orders(5, 4, 2, seed=3)
    rates = [0.01, 0.1]
    found = trajectories(some, orders, [2, 4], Sweep(optimiser, rates), seed=3)
    for i, order in enumerate(orders):
        head = fresh_head(4, some.features, 3, i)
        f = some.features[order, :3].reshape(-1, 6)
        y = torch.arange(4).repeat_interleave(3)
        for r, rate in enumerate(rates):
            run = slow_heads.head_sgd if optimiser == "sgd" else slow_heads.head_adam
            every = run(f, y, *head, float(torch.tensor(rate)), all_steps=True)
            for j, length in enumerate((2, 4)):
                w, b = every[3 * length - 1]
                asked = some.features[order[:length], 3:].reshape(-1, 6)
                answers = (asked @ w.T + b).argmax(1)
                assert found["test"][i, j, r] == (answers == torch.arange(length)).double().mean()


def test_a_shorter_test_is_the_start_of_a_longer_one() -> None:
    some, orders = encoded(), drawn_orders(5, 5, 1, seed=0)
    both = trajectories(some, orders, [2, 5], Sweep("sgd", [0.1]), seed=0)
    alone = trajectories(some, orders, [5], Sweep("sgd", [0.1]), seed=0)
    assert both["test"][0, 1, 0] == alone["test"][0, 0, 0]


def test_rates_are_chosen_on_validation_classes_and_an_edge_is_told() -> None:
    some = encoded()
    with pytest.warns(UserWarning, match=r"1e-06.*edge"):
        edge = choose_rate(some, 5, Sweep("sgd", [1e-6]), 2, seed=0)
    assert edge["edge"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = choose_rate(some, 5, Sweep("sgd", [1e-6, 0.3, 1e6]), 2, seed=0)
    best = max(found["sweep"], key=lambda pair: pair[1])
    assert found["rate"] == best[0]


@pytest.mark.filterwarnings("ignore:the best rate")
def test_heads_in_closed_form_stand_beside(omniglot: Path) -> None:
    parts = pools(load_images("omniglot", root=omniglot), 2)
    protocol = Protocol([2, 4], 3, 2, {"sgd": [0.01, 0.1]})
    found = meta_test(lambda x: x.flatten(1), parts, protocol, 0)
    # Noisy prototypes: the class means of pixels know nearly all of them.
    assert found["means"]["test_mean"][-1] > 0.9
    assert len(found["ridge"]["test"]) == 2
    assert len(found["slda"]["test"]) == 1
    with pytest.raises(FloatingPointError, match="features must be finite"):
        meta_test(lambda x: x.flatten(1) / 0, parts, protocol, 0)
    with pytest.raises(UserError, match="got 9 of 8"):
        meta_test(lambda x: x.flatten(1), parts, Protocol([2], 9, 2, {"sgd": [0.1]}), 0)


def test_a_head_that_has_diverged_knows_nothing() -> None:
    f, y = encoded().support(torch.arange(5))
    head = fresh_head(5, f, 0, 0)
    assert right(head, f, y) > 0
    assert right(LinearHead(head.weight * torch.nan, head.bias), f, y) == 0
