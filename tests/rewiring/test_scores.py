"""Scores of wires against their sentences, one place at a time."""

import pytest
import torch
from torch import nn

from neuromod import Generated, Modulated, Modulator, RefusedError, Table, Target, Threshold
from neuromod.rewiring import SCORES, Evidence, Rewiring, Score, rule_of
from neuromod.seeds import generator
from tests.rewiring.models import batch, loss_of, train, wiring_of

RNG = generator("scores")
WIRES = torch.rand(5, 7, generator=RNG) < 0.4
VALUES, GRADIENT = (torch.randn(5, 7, generator=RNG) for _ in range(2))


def score(name: str, **found: object) -> torch.Tensor:
    rng = generator("drawn")
    return SCORES[name].of(Evidence(Generated(), VALUES, WIRES, rng, **found))  # type: ignore[arg-type]


def test_magnitude_gradient_and_saliency() -> None:
    assert torch.equal(score("magnitude"), VALUES.abs())
    assert torch.equal(score("gradient", gradient=GRADIENT), GRADIENT.abs())
    assert torch.equal(score("saliency", gradient=GRADIENT), (VALUES * GRADIENT).abs())
    assert torch.equal(score("gradient_flow", curvature=GRADIENT), VALUES * GRADIENT)


@pytest.mark.parametrize("slot", ["momentum_buffer", "exp_avg"])
def test_momentum_is_the_running_mean_of_torchs_optimisers(slot: str) -> None:
    assert torch.equal(score("momentum", slots={slot: GRADIENT, "other": VALUES}), GRADIENT.abs())
    with pytest.raises(RefusedError, match="there is no running mean of gradients"):
        score("momentum", slots={"exp_avg_sq": GRADIENT})


def test_random_scores_are_those_of_their_generator() -> None:
    assert torch.equal(score("random"), torch.rand(5, 7, generator=generator("drawn")))


def test_topology_counts_paths_of_three_wires() -> None:
    outputs, inputs = WIRES.shape
    of_input, of_output = WIRES.sum(0).clamp(min=1), WIRES.sum(1).clamp(min=1)
    slow = torch.zeros(5, 7)
    for i in range(outputs):
        for j in range(inputs):
            for v in range(outputs):
                for u in range(inputs):
                    if WIRES[i, u] and WIRES[v, u] and WIRES[v, j]:
                        slow[i, j] += 1 / (float(of_input[u]) * float(of_output[v])) ** 0.5
    torch.testing.assert_close(score("topology"), slow)


def test_activity_is_the_covariance_of_the_two_units() -> None:
    x, h = torch.randn(9, 7, generator=RNG), torch.randn(9, 5, generator=RNG)
    slow = torch.zeros(5, 7)
    for i in range(5):
        for j in range(7):
            slow[i, j] = abs(((x[:, j] - x[:, j].mean()) * (h[:, i] - h[:, i].mean())).mean())
    torch.testing.assert_close(score("activity", activity=(x, h)), slow)


def test_masks_promise_where_their_gradient_is_negative() -> None:
    evidence = Evidence(Threshold(at=0.5), VALUES, WIRES, generator("drawn"), gradient=GRADIENT)
    assert torch.equal(SCORES["gradient"].of(evidence), -GRADIENT)
    assert torch.equal(SCORES["magnitude"].of(evidence), VALUES - 0.5)


def slow_growth(wires: torch.Tensor, values: torch.Tensor, count: int, judge: object) -> torch.Tensor:
    """Drop the smallest, judge what is left, grow."""
    alive = sorted(wires.flatten().nonzero().flatten().tolist(), key=lambda p: (abs(float(values.flatten()[p])), p))
    kept = torch.zeros(wires.numel(), dtype=torch.bool)
    kept[alive[count:]] = True
    scores = judge(kept.view_as(wires)).flatten()  # type: ignore[operator]
    free = sorted((p for p in range(len(kept)) if not kept[p]), key=lambda p: (-float(scores[p]), p))
    kept[free[:count]] = True
    return kept.view_as(wires)


@pytest.mark.parametrize("name", ["topology", "activity"])
def test_an_update_judges_places_by_what_is_left(name: str) -> None:
    model, wiring = wiring_of(rule_of(name, moved=0.5))
    before = {site: wires.clone() for site, wires in wiring.wires.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = batch(0)
    with torch.no_grad():
        hidden = nn.functional.linear(x, model.edits()["0.weight"], model.target.pristine[0].bias)  # type: ignore[index]
        last = nn.functional.linear(hidden.relu(), model.edits()["2.weight"], model.target.pristine[2].bias)  # type: ignore[index]
    heard = {"0.weight": (x, hidden), "2.weight": (hidden.relu(), last)}
    loss_of(model, 0).backward()
    wiring.before_step(optimizer)
    optimizer.step()
    values = {site: value.detach().clone() for site, value in wiring.values.items()}
    wiring.after_step(optimizer)
    for site, wires in before.items():

        def judge(kept: torch.Tensor, site: str = site) -> torch.Tensor:
            return SCORES[name].of(Evidence(Generated(), values[site], kept, generator(0), activity=heard[site]))

        count = int(0.5 * int(wires.sum()))
        assert torch.equal(wiring.wires[site], slow_growth(wires, values[site], count, judge))


def test_the_gradient_of_places_without_a_wire_is_taken_out() -> None:
    model, wiring = wiring_of(rule_of("static"))
    loss_of(model, 0).backward()
    dense = {site: value.grad.clone() for site, value in wiring.values.items() if value.grad is not None}
    wiring.before_step(torch.optim.SGD(model.parameters(), lr=0.1))
    for site, value in wiring.values.items():
        assert value.grad is not None
        assert torch.equal(value.grad, dense[site] * wiring.wires[site])
        assert dense[site][~wiring.wires[site]].any()


def test_a_score_may_be_the_users_own() -> None:
    lowest = Score(lambda evidence: -torch.arange(evidence.wires.numel()).view(evidence.wires.shape).double())
    model, wiring = wiring_of(rule_of("set", grow=lowest, drop=lowest, moved=1.0, every=1))
    train(model, wiring, torch.optim.SGD(model.parameters(), lr=0.1), range(1))
    for wires in wiring.wires.values():
        assert wires.flatten()[: int(wires.sum())].all()


def test_activity_is_read_of_linear_layers() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    target = Target(net, torch.randn(2, 1, 4, 4))
    model = Modulated(target, Modulator(Generated(), Table(None), target.weights("*"), identity=True))
    with pytest.raises(RefusedError, match=r"activity is read of linear layers; '0\.weight' is of a Conv2d"):
        Rewiring(model, "generated", rule_of("activity"), steps=5)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (lambda e: e.values.sum(), r"a score is a real float for each place, \(12, 8\) on cpu"),
        (lambda e: e.values.flatten(), "a score is a real float for each place"),
        (lambda e: torch.ones_like(e.values, dtype=torch.long), "a score is a real float for each place"),
        (lambda e: e.values.numpy(), "a score is a real float for each place"),
        (lambda e: torch.full_like(e.values, -torch.inf), "leaves '0.weight' .* give more places a score above -inf"),
    ],
)
def test_a_score_of_the_users_that_ranks_nothing_is_refused(found: object, words: str) -> None:
    model, wiring = wiring_of(rule_of("set", grow=Score(found), every=1))  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match=words) as refused:
        train(model, wiring, torch.optim.SGD(model.parameters(), lr=0.1), range(1))
    assert "\n" not in str(refused.value)


def test_what_a_score_needs_is_known_by_name() -> None:
    assert Score(lambda e: e.values, {"gradient"}).needs == frozenset({"gradient"})  # type: ignore[arg-type]
    for call, words in (
        (lambda: Score("magnitude"), "a score must be a function"),
        (lambda: Score(lambda e: e.values, "gradient"), "needs is a set of names"),
        (lambda: Score(lambda e: e.values, frozenset({"gradients"})), "try gradient|try 'gradient'"),
    ):
        with pytest.raises(RefusedError, match=words):
            call()  # type: ignore[no-untyped-call]


def test_wires_that_were_cut_once_may_move_by_the_same_score() -> None:
    model, wiring = wiring_of(rule_of("snip", grow="random", moved=0.3, every=1))
    wiring.prune(lambda: loss_of(model, 0))
    counts = wiring.counts()
    before = {site: wires.clone() for site, wires in wiring.wires.items()}
    train(model, wiring, torch.optim.SGD(model.parameters(), lr=0.1), range(2))
    assert wiring.counts() == counts
    assert any(not torch.equal(before[site], wires) for site, wires in wiring.wires.items())
