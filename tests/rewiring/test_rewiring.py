"""Training under a rule: what stays exact, and each rule against ten lines of it."""

import copy

import pytest
import torch
from torch import nn

from neuromod import Generated, Modulated, Modulator, RefusedError, Table, Target
from neuromod.rewiring import RULES, Rewiring, rule_of
from neuromod.rewiring.rule import moved_count
from tests.rewiring.models import loss_of, model_of, network, train, wiring_of

SGD = {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-2}
OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, **SGD),
    "nesterov": lambda p: torch.optim.SGD(p, **SGD, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
}
MOVING = [name for name in RULES if RULES[name].cut == "drawn"]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("name", MOVING)
def test_the_count_is_exact_and_nothing_lives_beside_the_wires(name: str, optimiser: str) -> None:
    model, wiring = wiring_of(rule_of(name, every=1 if name == "dnw" else 5))
    optimizer = OPTIMISERS[optimiser](model.parameters())
    counts = wiring.counts()
    for step in range(30):
        train(model, wiring, optimizer, range(step, step + 1))
        assert wiring.counts() == counts
        edits = model.edits()
        for site, wires in wiring.wires.items():
            assert not edits[site][~wires].any()
            assert torch.equal(edits[site], wiring.values[site])
    model.target.verify()
    assert any(bool((edits[site] != 0).any()) for site in wiring.wires)


def test_wires_of_a_rule_that_stands_still_stay() -> None:
    model, wiring = wiring_of(rule_of("static"))
    before = copy.deepcopy(wiring.wires)
    train(model, wiring, torch.optim.SGD(model.parameters(), **SGD), range(12))
    assert all(torch.equal(before[site], wires) for site, wires in wiring.wires.items())


def slow_training(name: str, steps: int, every: int, density: float) -> list[torch.Tensor]:
    """The rule written down: plain tensors, masks, SGD with momentum and decay by hand."""
    _, wiring = wiring_of(rule_of(name, every=every), steps=steps, density=density)
    rule, net = wiring.rule, network()
    weights = [net[0].weight, net[2].weight]
    masks = [wires.clone() for wires in wiring.wires.values()]
    latent = [w.detach().clone() for w in weights]
    slots = [torch.zeros_like(w) for w in weights]
    for t in range(steps):
        for w, mask, full in zip(weights, masks, latent, strict=True):
            w.data = full * mask
        gradients = torch.autograd.grad(loss_of(net, t), weights)
        update = rule.moved > 0 and t % every == 0 and t <= int(rule.until * steps)
        for i, g in enumerate(gradients):
            mask, full, slot = masks[i], latent[i], slots[i]
            if not (update and rule.pauses):
                own = g if rule.dense else g * mask
                slot.mul_(SGD["momentum"]).add_(
                    own + SGD["weight_decay"] * (full if rule.born == "latent" else full * mask)
                )
                full.sub_(SGD["lr"] * slot)
            if rule.born != "latent":
                full.mul_(mask)
            if update:
                count = moved_count(rule.share(t, steps), int(mask.sum()))
                alive = mask.flatten().nonzero().flatten().tolist()
                gone = sorted(alive, key=lambda p: (abs(float(full.flatten()[p])), p))[:count]
                kept = [p for p in alive if p not in gone]
                score = {"gradient": g, "momentum": slot, "magnitude": full}[str(rule.grow)].abs().flatten()
                free = [p for p in range(mask.numel()) if p not in kept]
                grown = sorted(free, key=lambda p: (-float(score[p]), p))[:count]
                new = torch.zeros_like(mask).flatten()
                new[kept + grown] = True
                born = (new & ~mask.flatten()).view_as(mask)
                lost = (mask.flatten() & ~new).view_as(mask)
                masks[i] = new.view_as(mask)
                if rule.born != "latent":
                    full[born] = 0.0
                    full.mul_(masks[i])
                    slot[born if rule.dense else born | lost] = 0.0
    return [full * mask for full, mask in zip(latent, masks, strict=True)]


@pytest.mark.parametrize(("name", "every"), [("static", 3), ("rigl", 3), ("snfs", 3), ("dnw", 1)])
def test_training_is_the_slow_one(name: str, every: int) -> None:
    model, wiring = wiring_of(rule_of(name, every=every), steps=20, density=0.3)
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    train(model, wiring, optimizer, range(20))
    for found, expected in zip(wiring.values.values(), slow_training(name, 20, every, 0.3), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_rigl_takes_no_step_of_the_wires_at_an_update_and_set_does() -> None:
    for name, still in (("rigl", True), ("set", False)):
        model, wiring = wiring_of(rule_of(name, moved=1e-6))  # so few that none moves
        before = [value.detach().clone() for value in wiring.values.values()]
        train(model, wiring, torch.optim.SGD(model.parameters(), lr=0.1), range(1))
        assert all(torch.equal(a, b) for a, b in zip(before, wiring.values.values(), strict=True)) == still


def test_a_wire_that_comes_back_keeps_its_number_and_a_new_one_is_0() -> None:
    model, wiring = wiring_of(rule_of("rigl", every=1, moved=0.9, anneal="constant"))
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    came_back = born = 0
    for step in range(20):
        before = {site: (wires.clone(), wiring.values[site].detach().clone()) for site, wires in wiring.wires.items()}
        train(model, wiring, optimizer, range(step, step + 1))
        for site, (wires, values) in before.items():
            both, new = wires & wiring.wires[site], wiring.wires[site] & ~wires
            assert torch.equal(wiring.values[site][both], values[both])  # an update takes the place of a step
            assert not wiring.values[site][new].any()
            came_back, born = came_back + int(both.sum()), born + int(new.sum())
    assert came_back > 0
    assert born > 0


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_slots_of_new_wires_are_reset(optimiser: str) -> None:
    model, wiring = wiring_of(rule_of("set", every=6, moved=0.5), steps=30)
    optimizer = OPTIMISERS[optimiser](model.parameters())
    train(model, wiring, optimizer, range(6))
    before = {site: wires.clone() for site, wires in wiring.wires.items()}
    train(model, wiring, optimizer, range(6, 7))
    for site, value in wiring.values.items():
        new = wiring.wires[site] & ~before[site]
        slots = [s for s in optimizer.state[value].values() if torch.is_tensor(s) and s.shape == value.shape]
        assert slots
        assert new.any()
        for slot in slots:
            assert not slot[new].any()
            assert slot[wiring.wires[site] & ~new].any()
            assert not slot[~wiring.wires[site]].any()


def test_the_gradient_of_a_dead_edge_under_dnw_is_the_dense_one() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        conv = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.Flatten(), nn.Linear(96, 4, bias=False)).double()
        x = torch.randn(5, 3, 6, 6, dtype=torch.float64).contiguous(memory_format=layout)
        conv = conv.to(memory_format=layout)
        target = Target(conv, x)
        model = Modulated(target, Modulator(Generated(), Table(None), target.weights("0.weight"), identity=True))
        wiring = Rewiring(model, "generated", rule_of("dnw"), steps=10, density=0.25, scope="uniform")
        wires, latent = wiring.wires["0.weight"], wiring.latents["0.weight"]
        plain = copy.deepcopy(conv)
        plain[0].weight.data = latent * wires
        loss = model(x).square().sum()
        (dense,) = torch.autograd.grad(plain(x).square().sum(), [plain[0].weight])
        loss.backward()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before = latent.clone()
        wiring.step(optimizer)
        torch.testing.assert_close(wiring.latents["0.weight"], before - 0.1 * dense, rtol=1e-12, atol=0)
        assert dense[~wires].any()


@pytest.mark.parametrize("name", ["rigl", "snfs", "dnw", "set"])
def test_a_resumed_training_is_the_same_bit_for_bit(name: str) -> None:
    rule = rule_of(name, every=1 if name == "dnw" else 4)

    def fresh() -> tuple[nn.Module, Rewiring, torch.optim.Optimizer]:
        model, wiring = wiring_of(rule)
        return model, wiring, OPTIMISERS["adam"](model.parameters())

    model, wiring, optimizer = fresh()
    train(model, wiring, optimizer, range(17))  # type: ignore[arg-type]
    saved = copy.deepcopy((model.state_dict(), wiring.state_dict(), optimizer.state_dict()))
    train(model, wiring, optimizer, range(17, 30))  # type: ignore[arg-type]
    again, other, second = fresh()
    for part, state in zip((again, other, second), saved, strict=True):
        part.load_state_dict(state)
    train(again, other, second, range(17, 30))  # type: ignore[arg-type]
    assert wiring.counts() == other.counts()
    assert all(torch.equal(wiring.births[site], born) for site, born in other.births.items())
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_ages_count_from_birth() -> None:
    model, wiring = wiring_of(rule_of("set", every=5, moved=0.5))
    train(model, wiring, torch.optim.SGD(model.parameters(), **SGD), range(13))
    for site, age in wiring.ages().items():
        assert torch.equal(age >= 0, wiring.wires[site])
        assert set(age.unique().tolist()) <= {-1, 3, 8, 13}
        assert {3, 13} <= set(age.unique().tolist())


def test_a_rule_is_held_to_chosen_sites_and_the_others_stay_dense() -> None:
    model, wiring = wiring_of(rule_of("rigl", every=2), sites=["2.weight"])
    train(model, wiring, torch.optim.SGD(model.parameters(), **SGD), range(9))
    assert list(wiring.counts()) == ["2.weight"]
    edits = model.edits()
    assert (edits["2.weight"] != 0).sum() <= wiring.counts()["2.weight"]
    assert (edits["0.weight"] != 0).all()


def test_a_start_is_rescaled_by_the_root_of_places_over_wires() -> None:
    (_, plain), (_, scaled) = (wiring_of(rule_of("static"), rescale=flag) for flag in (False, True))
    for site, value in plain.values.items():
        factor = (value.numel() / plain.counts()[site]) ** 0.5
        torch.testing.assert_close(scaled.values[site], value * factor)


def test_a_new_wire_may_begin_where_its_weight_was() -> None:
    model, wiring = wiring_of(rule_of("set", every=1, moved=0.5, born="start"))
    before = {site: wires.clone() for site, wires in wiring.wires.items()}
    train(model, wiring, torch.optim.SGD(model.parameters(), lr=0.1), range(1))
    for site, value in wiring.values.items():
        new = wiring.wires[site] & ~before[site]
        assert torch.equal(value[new], model.target.tensors()[site][new])


def test_refusals() -> None:
    model = model_of()
    for call, words in (
        (lambda: Rewiring(model, "topk", rule_of("set"), steps=5), "got 'topk'; nearest: 'generated'"),
        (lambda: Rewiring(model, None, rule_of("set"), steps=5), "got None; nearest: 'generated'"),  # type: ignore[arg-type]
        (lambda: Rewiring(model, "generated", rule_of("set"), steps=0), "steps must be an integer of 1 or more"),
        (lambda: Rewiring(model, "generated", rule_of("set"), steps=5, sites=["0.wieght"]), "got '0.wieght'; nearest"),
        (lambda: Rewiring(model, "generated", rule_of("set"), steps=5, task=0), "got task=0 of one row"),
        (
            lambda: Rewiring(model, "generated", rule_of("set"), steps=5, density=1e-9, scope="uniform"),
            "at least one wire",
        ),
    ):
        with pytest.raises(RefusedError, match=words):
            call()
    wiring = Rewiring(model, "generated", rule_of("rigl"), steps=5)
    with pytest.raises(RefusedError, match=r"a rule goes by gradients; '0.weight' has none; call backward\(\) first"):
        wiring.step(torch.optim.SGD(model.parameters(), lr=0.1))
    loss_of(model, 0).backward()
    wiring.values["0.weight"].grad.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(RefusedError, match="scores must be finite to be ranked; got NaN"):
        wiring.step(torch.optim.SGD(model.parameters(), lr=0.1))


def test_dnw_on_the_pointwise_convolutions_of_a_small_mobilenet() -> None:
    def separable(inputs: int, outputs: int) -> nn.Sequential:
        depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        return nn.Sequential(depthwise, nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.ReLU())

    net = nn.Sequential(separable(3, 8), separable(8, 12), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))
    x = torch.randn(6, 3, 5, 5)
    target = Target(net, x)
    model = Modulated(target, Modulator(Generated(), Table(None), target.weights("*"), identity=True))
    pointwise = [site.name for site in target.weights("*") if site.shape[2:] == (1, 1)]
    wiring = Rewiring(model, "generated", rule_of("dnw"), steps=9, density=0.225, scope="uniform", sites=pointwise)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(9):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        wiring.step(optimizer)
        edits = model.edits()
        assert wiring.counts() == {"0.2.weight": round(0.225 * 24), "1.2.weight": round(0.225 * 96)}
        for site in target.weights("*"):
            kept = int((edits[site.name] != 0).sum())
            assert kept == (wiring.counts()[site.name] if site.name in pointwise else edits[site.name].numel())


def test_an_optimiser_of_other_numbers_is_refused() -> None:
    model, wiring = wiring_of(rule_of("rigl"))
    other = model_of()
    for optimizer in (torch.optim.SGD(other.parameters(), lr=0.1), None):
        loss_of(model, 0).backward()
        with pytest.raises(RefusedError, match=r"has none of '0.weight'; make it of model.parameters\(\)"):
            wiring.step(optimizer)  # type: ignore[arg-type]
