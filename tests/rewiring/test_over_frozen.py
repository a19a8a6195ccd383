"""Growth over a frozen network: every mask takes a rule, and wires are sealed as what they are."""

import pytest
import torch
from torch import nn

from neuromod import (
    Bernoulli,
    Kind,
    LowRankDelta,
    Modulated,
    Modulator,
    RefusedError,
    Table,
    Target,
    Threshold,
    TopK,
    Wires,
)
from neuromod.rewiring import Rewiring, rule_of
from tests.rewiring.models import batch, loss_of, model_of, train

MASKS = {"topk": TopK(0.25), "threshold": Threshold(), "bernoulli": Bernoulli()}
KINDS: dict[str, Kind] = MASKS | {"wires": Wires(0.25), "threshold_at": Threshold(at=5e-3, strict=True, constant=1e-2)}


def rewired(name: str, rule: str, task: int = 1, **options: object) -> tuple[Modulated, Rewiring]:
    model = model_of(KINDS[name], tasks=2)
    made = rule_of(rule, every=4, **options)
    wiring = Rewiring(model, name.partition("_")[0], made, steps=30, density=0.25, scope="uniform", task=task)
    return model, wiring


@pytest.mark.parametrize("rule", ["static", "set", "rigl", "topology"])
@pytest.mark.parametrize("name", KINDS)
def test_a_rule_moves_the_wires_of_any_mask_and_of_wires(name: str, rule: str) -> None:
    model, wiring = rewired(name, rule)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = {site: wires.clone() for site, wires in wiring.wires.items()}
    target = model.target.tensors()
    other = {
        key: value.detach().clone() for key, value in model.named_modulators()[wiring_name(model)].source.own(0).items()
    }
    for step in range(20):
        train(model, wiring, optimizer, range(step, step + 1), task=1)
        model.eval()
        for site, weight in model.edits(task=1).items():
            changed = (weight != target[site]) if name == "wires" else (weight != 0)
            assert not changed[~wiring.wires[site]].any()
            assert int(changed.sum()) <= round(0.25 * weight.numel())
            assert name == "wires" or torch.equal(changed, wiring.wires[site])
        model.train()
    moved = any(not torch.equal(first[site], wires) for site, wires in wiring.wires.items())
    assert moved == (rule != "static")
    # The row of the other task, which no rule holds, stays where it was.
    for key, value in model.named_modulators()[wiring_name(model)].source.own(0).items():
        assert torch.equal(value, other[key])


def wiring_name(model: Modulated) -> str:
    return next(iter(model.named_modulators()))


def test_masks_that_move_follow_the_slow_rule() -> None:
    # Drop the wires whose scores are nearest to closing; grow where the gradient to a score is most negative.
    model, wiring = rewired("threshold", "rigl", moved=0.5)
    site = wiring.sites[0]
    before, score = wiring.wires[site.name].flatten().clone(), wiring.values[site.name]
    loss_of(model, 0, task=1).backward()
    assert score.grad is not None
    gradient, scores = score.grad.flatten().clone(), score.detach().flatten().clone()
    wiring.step(torch.optim.SGD(model.parameters(), lr=0.1))
    count = int(before.sum()) // 2
    alive = sorted(before.nonzero().flatten().tolist(), key=lambda p: (float(scores[p]), p))
    kept = alive[count:]
    free = sorted((p for p in range(len(scores)) if p not in kept), key=lambda p: (float(gradient[p]), p))
    assert set(wiring.wires[site.name].flatten().nonzero().flatten().tolist()) == {*kept, *free[:count]}


def test_wires_are_born_at_0_and_leave_the_output_as_it_is_to_the_bit() -> None:
    model, wiring = rewired("wires", "set", moved=0.9)
    x, _ = batch(0)
    with torch.no_grad():
        before = model(x, task=1)
        assert torch.equal(before, model.target(x))
        train_free = {site: wires.clone() for site, wires in wiring.wires.items()}
    loss_of(model, 0, task=1).backward()
    for value in wiring.values.values():
        value.grad.zero_()  # type: ignore[union-attr]
    wiring.step(torch.optim.SGD(model.parameters(), lr=0.1))
    assert any(not torch.equal(train_free[site], wires) for site, wires in wiring.wires.items())
    assert torch.equal(model(x, task=1), before)


def test_sealed_wires_cost_their_index_and_value_alone_and_give_the_same_outputs() -> None:
    model, wiring = rewired("wires", "rigl")
    train(model, wiring, torch.optim.Adam(model.parameters(), lr=1e-2), range(12), task=1)
    model.eval()
    x, _ = batch(3)
    live, wires = model(x, task=1), sum(wiring.counts().values())
    model.seal(1)
    torch.testing.assert_close(model(x, task=1), live, rtol=1e-12, atol=1e-12)
    row = model.named_modulators()["wires"].sealed.row(1)
    assert {value.dtype for key, value in row.items() if key.endswith("index")} == {torch.int32}
    assert model.bytes_per_task(1) == wires * (4 + 8)  # of float64; 8 bytes a wire in float32
    ids = torch.arange(16) % 2
    rows = torch.stack([model(x[i : i + 1], task=int(t))[0] for i, t in enumerate(ids)])
    torch.testing.assert_close(model(x, task=ids), rows)


def test_wires_grow_where_the_target_has_none() -> None:
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5)).double()
    with torch.no_grad():
        net[0].weight.mul_(torch.arange(48).view(6, 8) % 7 == 0)
    target = Target(net, torch.ones(2, 8, dtype=torch.float64))
    model = Modulated(target, Modulator(Wires(0.2), Table(None), target.weights("0.weight")))
    wiring = Rewiring(model, "wires", rule_of("rigl", every=2), steps=40, density=0.2, scope="uniform")
    train(model, wiring, torch.optim.Adam(model.parameters(), lr=1e-2), range(20))
    absent = net[0].weight == 0
    assert (model.edits()["0.weight"][absent] != 0).any()


@pytest.mark.parametrize(
    ("kind", "density", "rule", "words"),
    [
        (
            TopK(0.5),
            0.25,
            "rigl",
            "TopK has 48 wires at '0.weight', of 96 places; the rule wants 24; give both the same density",
        ),
        (Wires(0.1), 0.25, "rigl", "Wires has 10 at most wires at '0.weight', of 96 places; the rule wants 24"),
        (Wires(0.25), 0.25, "gmp", "the rule wants 96; give both the same density, scope='uniform' and cut='drawn'"),
        (LowRankDelta(2), 0.25, "set", "a rule moves wires; LowRankDelta has none; take a mask, Wires, or Generated"),
    ],
)
def test_refused_kinds(kind: Kind, density: float, rule: str, words: str) -> None:
    model = model_of(kind)
    with pytest.raises(RefusedError, match=words):
        Rewiring(model, wiring_name(model), rule_of(rule), steps=5, density=density, scope="uniform")


def test_a_mask_has_weights_of_its_own_size() -> None:
    with pytest.raises(
        RefusedError, match="weights themselves are rescaled; TopK keeps the target's; drop rescale=True"
    ):
        Rewiring(model_of(TopK(0.25)), "topk", rule_of("set"), steps=5, density=0.25, scope="uniform", rescale=True)


def test_a_site_with_no_room_for_a_wire_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"a site has at least one wire; density 0\.001 of '0\.weight'"):
        model_of(Wires(0.001)).edits()
