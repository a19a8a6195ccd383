"""Schedules and moves of rules: published vectors, and a form of each that reads like the sentence."""

import numpy as np
import pytest
import torch

from neuromod import RefusedError
from neuromod.rewiring import RULES, Rule, rule_of
from neuromod.rewiring.rule import drop_wires, grow_wires, moved_count, select
from neuromod.seeds import generator


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0.3), (18750, 0.256066), (25000, 0.225), (37500, 0.15), (50000, 0.075), (56250, 0.043934), (75000, 0)],
)
def test_rigl_anneals_by_a_cosine(step: int, share: float) -> None:
    assert RULES["rigl"].last(100_000) == 75_000
    assert RULES["rigl"].share(step, 100_000) == pytest.approx(share, abs=5e-7)


def test_rigl_updates_at_step_0_and_until_three_quarters_of_the_steps() -> None:
    due = [step for step in range(1000) if RULES["rigl"].due(step, 1000)]
    assert due == list(range(0, 751, 100))
    shares = [RULES["rigl"].share(step, 1000) for step in due]
    assert shares == pytest.approx([0.3, 0.287032, 0.250370, 0.196353, 0.134321, 0.075, 0.028647, 0.003278], abs=5e-7)


def test_the_first_drop_of_rigl_on_lenet() -> None:
    assert [moved_count(0.3, n) for n in (18715, 6906, 1000)] == [5614, 2071, 300]
    # The product of two float32, cut: .3 of 10 is 3.0000001 there and 2 in exact cutting of .29999.
    assert moved_count(0.3, 10) == int(np.float32(0.3) * np.float32(10)) == 3


def test_gradual_pruning_is_cubic() -> None:
    found = [RULES["gmp"].wanted(1000, 100, step, 1000) for step in (0, 75, 375, 750, 999)]
    assert found == [1000, 100 + round(900 * 0.9**3), 100 + round(900 / 8), 100, 100]
    assert RULES["static"].wanted(1000, 100, 0, 1000) == 100


def test_linear_and_constant_schedules() -> None:
    linear, constant = (rule_of("set", anneal=a, until=1.0) for a in ("linear", "constant"))
    assert [linear.share(step, 100) for step in (0, 25, 100)] == pytest.approx([0.3, 0.225, 0])
    assert constant.share(99, 100) == 0.3


def slow_update(wires: np.ndarray, drop: np.ndarray, grow: np.ndarray, count: int) -> set[int]:
    """Drop the smallest of the wires, then grow the best of all places that are not kept, one at a time."""
    kept = {place for place in range(len(wires)) if wires[place]}
    for _ in range(count):
        kept.remove(min(kept, key=lambda place: (drop[place], place)))
    after = set(kept)
    for _ in range(count):
        after.add(max((p for p in range(len(wires)) if p not in after), key=lambda place: (grow[place], -place)))
    return after


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [0, 1, 7, 15])
def test_an_update_is_the_slow_one(seed: int, count: int) -> None:
    rng = generator("update", seed)
    wires = torch.zeros(40, dtype=torch.bool)
    wires[torch.randperm(40, generator=rng)[:15]] = True
    # Many equal scores: ties go to the earlier place, dropped and grown alike.
    drop, grow = (torch.randint(6, (40,), generator=rng).float() for _ in range(2))
    after = grow_wires(drop_wires(wires, drop, count), grow, count)
    assert set(after.nonzero().flatten().tolist()) == slow_update(wires.numpy(), drop.numpy(), grow.numpy(), count)
    assert int(after.sum()) == 15


def test_a_wire_that_was_dropped_may_come_back() -> None:
    wires = torch.tensor([True, True, False, False])
    after = grow_wires(drop_wires(wires, torch.tensor([1.0, 2.0, 0.0, 0.0]), 1), torch.tensor([9.0, 0.0, 1.0, 2.0]), 1)
    assert after.tolist() == [True, True, False, False]


def test_dnw_is_the_largest_of_all() -> None:
    w = torch.tensor([0.5, -0.1, 0.3, -0.7, 0.2])
    for kept, expected in ((5 - int(0.6 * 5), [0.5, 0, 0, -0.7, 0]), (5 - int(0.5 * 5), [0.5, 0, 0.3, -0.7, 0])):
        wires = torch.zeros(5, dtype=torch.bool)
        wires[:kept] = True
        count = moved_count(RULES["dnw"].share(3, 10), kept)
        after = grow_wires(drop_wires(wires, w.abs(), count), w.abs(), count)
        assert (w * after).tolist() == pytest.approx(expected)


def test_select_ranks_signed_scores_and_breaks_ties_by_place() -> None:
    assert select(torch.tensor([-3.0, -1.0, -2.0, -1.0]), 2).tolist() == [False, True, False, True]
    assert select(torch.tensor([1.0, 1.0, 1.0]), 2).tolist() == [True, True, False]
    assert select(torch.tensor([1.0, 2.0]), 0).tolist() == [False, False]
    half = torch.tensor([1.0, 3.0, 2.0], dtype=torch.bfloat16)  # numpy has no such numbers
    assert select(half, 2).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: select(torch.tensor([1.0, torch.nan]), 1), "scores must be finite to be ranked; got NaN"),
        (lambda: select(torch.ones(3), 4), "wires need a place each; got 4 wires for 3 places"),
        (
            lambda: Rule(until=1.5),
            "until, the share of the steps in which wires move, must be .* of 1 at most; got 1.5",
        ),
        (lambda: Rule(moved=0.3), "wires that move come back elsewhere; got moved > 0 and grow=None; name a score"),
        (lambda: Rule(grow="random"), "got grow and moved=0; set moved"),
        (lambda: Rule(grow="momentum", moved=0.3), "places have slots with dense=True"),
        (lambda: Rule(born="latent"), "add dense=True"),
        (lambda: Rule(rounds=3), "are of a cut that is made once"),
        (lambda: Rule(drop="magnitud"), "a score is one of .* nearest: 'magnitude'"),
        (lambda: rule_of("rigel"), "a rule must be one of .*; try 'rigl'"),
        (lambda: rule_of("rigl", evry=3), "an option of a rule must be one of .*; try 'every'"),
        (lambda: Rule(every=0), "every, the steps from an update to the next, must be an integer of 1 or more"),
        (lambda: Rule(cut="never"), "cut must be one of"),
        (lambda: Rule(drop="synaptic_flow", grow="random", moved=0.3), "taken for a cut that is made once"),
        (lambda: Rule(drop="gradient_flow", cut="gradual"), "taken for a cut that is made once"),
        (lambda: rule_of("grasp", grow="random", moved=0.3), "taken for a cut that is made once"),
        (lambda: Rule(grow="gradient_flow", moved=0.3), "taken for a cut that is made once"),
    ],
)
def test_refused_rules(call: object, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        call()  # type: ignore[operator]


def test_the_presets_differ_in_what_their_papers_differ_in() -> None:
    assert RULES["set"].growing != RULES["rigl"].growing
    assert not RULES["set"].pauses
    assert RULES["rigl"].pauses
    assert not RULES["static"].moves
