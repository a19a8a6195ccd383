"""A random network is drawn and hashed first; its masks are a target, a task like any other, and many targets are many tasks."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neuromod import Bank, RefusedError, Store, bake
from neuromod.bank import from_pretrained, save_pretrained
from neuromod.kinds.bits import unpack
from neuromod.tickets import RandomMLP, measured_error, unit_ball
from neuromod.tickets.network import random_blocks
from neuromod.tickets.slots import signed_slots
from tests.tickets import slow

WIDTHS = (6, 9, 7, 3)


def network(**options: Any) -> RandomMLP:
    return RandomMLP(**{"widths": WIDTHS, "n": 12, "spare": 6, "scale": 2.0, "seed": 1, **options})


def masks(found: Any, random: RandomMLP) -> dict[str, torch.Tensor]:
    shapes = {name: tuple(value.shape) for name, value in random.target.tensors().items()}
    packed = {key.removesuffix("/bits").replace("/", "."): bits for key, bits in found.row.items()}
    return {name: unpack(bits, shapes[name], torch.float64) for name, bits in packed.items()}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_masks_alone_make_the_target(bias: bool, nonnegative: bool) -> None:
    random, target = network(bias=bias, nonnegative_input=nonnegative), slow.mlp(*WIDTHS, bias=bias)
    ticket, model = random.find(target, tolerance=1e-3), random.model()
    ticket.put(model, 5)
    x = unit_ball(500, 6, nonnegative=nonnegative)
    assert measured_error(model, 5, target, x) < 5e-3
    assert ticket.missed == 0
    by_hand = slow.forward(random.target.pristine, masks(ticket, random), x)  # type: ignore[arg-type]
    assert torch.allclose(by_hand, model.double()(x, task=5), atol=1e-12, rtol=0)
    random.target.verify()


def test_what_it_says_it_reached_is_what_the_masks_do() -> None:
    random, target = network(), slow.mlp(*WIDTHS)
    ticket = random.find(target)
    kept, net = masks(ticket, random), random.target.pristine
    for block, found in enumerate(ticket.layers):
        first, second = (net[4 * block + i].weight.double() * kept[f"{4 * block + i}.weight"] for i in (1, 3))  # type: ignore[index]
        product = second @ first.clamp(min=0)
        assert torch.allclose(product, found.product.plus, atol=1e-12)
        if block == 0:
            assert torch.allclose(-second @ first.clamp(max=0).abs(), found.product.minus, atol=1e-12)
        else:
            assert found.product.minus is None
        # Every unit that is used keeps one weight, and none that is not used keeps any.
        assert torch.equal(kept[f"{4 * block + 1}.weight"].sum(1), kept[f"{4 * block + 3}.weight"].any(0).double())


def test_the_network_is_drawn_before_the_target_is_read() -> None:
    random = network()
    before = random.target.fingerprint()
    found = [random.find(slow.mlp(*WIDTHS, seed=seed)) for seed in range(2)]
    assert {ticket.fingerprint for ticket in found} == {before}
    assert network().target.fingerprint() == before != network(seed=2).target.fingerprint()
    again = network().find(slow.mlp(*WIDTHS, seed=0))
    assert all(torch.equal(again.row[key], bits) for key, bits in found[0].row.items())


def test_its_numbers_are_independent_and_uniform() -> None:
    net = RandomMLP((20, 30, 5), n=16, scale=3.0).target.pristine
    for name, scale in (("1", 1.0), ("3", 3.0), ("5", 1.0), ("7", 3.0)):
        drawn = net.get_submodule(name).weight.flatten()  # type: ignore[union-attr]
        assert float(drawn.abs().max()) <= scale  # type: ignore[operator]
        assert float(drawn.mean()) == pytest.approx(0, abs=0.05 * scale)  # type: ignore[operator]
        assert float(drawn.var()) == pytest.approx(scale**2 / 3, rel=0.1)  # type: ignore[operator]


def test_many_targets_are_tasks_of_one_bank(tmp_path: Path) -> None:
    random, targets = network(), [slow.mlp(*WIDTHS, seed=seed) for seed in range(4)]
    model = random.model()
    for task, target in enumerate(targets):
        random.find(target, tolerance=1e-3).put(model, task)
    x = unit_ball(40, 6).float()
    mixed = model(x, task=[i % 4 for i in range(40)])
    for task, target in enumerate(targets):
        assert torch.allclose(mixed[task::4], target(x)[task::4], atol=1e-2)
    bank = Bank(model)
    assert len(bank) == 4
    numbers = sum(p.numel() for p in random.target.pristine.parameters())
    assert model.bytes_per_task(0) == pytest.approx(numbers / 8, abs=6)
    assert bank.overlap()[0, 1] < 0.8
    store = Store.create(tmp_path / "store", model)
    for task in range(4):
        store.append(model, task)
    other = random.model()
    store.load(other)
    assert torch.equal(other(x, task=3), model(x, task=3))
    assert torch.equal(bake(model, task=2)(x), model(x, task=2))


def test_a_hard_weight_is_solved_again_with_the_spare_units() -> None:
    target = slow.mlp(*WIDTHS)
    without, widened = (network(n=8, spare=spare, scale=2.0).find(target, tolerance=2e-3) for spare in (0, 6))
    assert without.widened == 0 < without.missed
    assert widened.widened > 0
    assert widened.missed < without.missed
    assert (widened.errors() > 2e-3).sum() == widened.missed
    free = network(n=8, spare=6, scale=2.0).find(target)
    assert free.widened == free.missed == 0
    assert (widened.errors() <= free.errors() + 1e-12).all()


@pytest.mark.parametrize(("inputs", "each"), [(1, 5), (2, 8), (3, 4), (12, 6)])
def test_units_are_shared_out_by_their_signs(inputs: int, each: int) -> None:
    random = RandomMLP((inputs, 4, 2), n=each, spare=0, bias=True)
    slots = random.slots[0]
    first = torch.cat([random.target.tensors()["1.weight"], random.target.tensors()["1.bias"][:, None]], dim=1)
    assert sorted(slots.units.flatten().tolist()) == list(range(each * (2 * inputs + 1)))
    for units, column, sign in zip(slots.units, slots.columns.tolist(), slots.signs.tolist(), strict=True):
        assert len(units) == each
        assert (first[units, column] * sign > 0).all()
    assert slots.columns.tolist().count(inputs) == 1


def test_signs_that_cant_be_shared_out_are_found() -> None:
    assert signed_slots(torch.ones(4, 1), 2, torch.ones(1, 2, dtype=torch.bool)) is None


def test_a_single_layer_is_found() -> None:
    random, target = RandomMLP((5, 3), n=16), slow.mlp(5, 3)
    assert random.find(target, tolerance=1e-3).certificate() < 5e-3


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Linear(6, 3, bias=False), nn.Tanh(), nn.Linear(3, 3)), "got Tanh at '1'; pass nn.Sequential"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), "got Conv2d at '0'"),
        (nn.Sequential(), "got none; pass"),
        (nn.Sequential(nn.Linear(6, 3), nn.ReLU()), "got 2 layers; pass"),
        (slow.mlp(6, 4, 3), "got (6, 4, 3) for (6, 9, 7, 3); draw RandomMLP((6, 4, 3))"),
        (slow.mlp(*WIDTHS, bias=True), "a bias needs units of its own; layer 0 of the target has one"),
        (slow.mlp(*WIDTHS, largest=9), "n * scale / 8 = 3; the weight of layer 0 has 8.9"),
        (slow.mlp(*WIDTHS, largest=float("nan")), "the weights of a target are finite; 0.weight has nan"),
        ("net", "net, the target of a ticket, must be a Module; got 'net'"),
    ],
)
def test_a_target_that_it_does_not_contain_is_refused(net: Any, message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)) as refusal:
        network().find(net)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("tolerance", [0, -1e-3, float("nan"), "small", True])
def test_a_tolerance_is_above_0(tolerance: Any) -> None:
    with pytest.raises(RefusedError, match="tolerance, the largest error of a weight, must be a finite number above 0"):
        network().find(slow.mlp(*WIDTHS), tolerance=tolerance)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 1}, "n, the candidates of a weight, must be an integer from 2 to 26; got 1"),
        ({"n": 27}, "from 2 to 26; got 27"),
        ({"n": 26, "spare": 5}, "spare, the units beside them, must be an integer from 0 to 4; got 5"),
        ({"widths": (3,)}, "widths are those of all layers"),
        ({"widths": "33"}, "widths are those of all layers"),
        ({"widths": (3, 0)}, "a width must be an integer of 1 or more; got 0"),
        ({"scale": 0}, "must be a finite number above 0; got 0"),
        ({"bias": 1}, "bias must be True or False; got 1"),
        ({"nonnegative_input": None}, "nonnegative_input must be True or False"),
        ({"seed": -1}, "seed must be an integer of 0 or more"),
    ],
)
def test_a_network_that_cant_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)):
        network(**wrong)


def test_a_ticket_goes_into_its_own_network_once() -> None:
    random, target = network(), slow.mlp(*WIDTHS)
    ticket, model = random.find(target), random.model()
    with pytest.raises(RefusedError, match="a ticket is of one random network; it was found in"):
        ticket.put(network(seed=2).model(), 0)
    other = dataclasses.replace(ticket, row={"1/weight/bits": ticket.row["1/weight/bits"]})
    with pytest.raises(RefusedError, match="a ticket is a row of one mask modulator on 1 tensors"):
        other.put(model, 0)
    ticket.put(model, 0)
    with pytest.raises(RefusedError, match="a task is put in once; task 0 is there already"):
        ticket.put(model, 0)


@pytest.mark.parametrize(
    ("widths", "options"),
    [
        ((6, 1, 2), {}),
        ((6, 3, 2), {"n": 20}),
        ((3, 1, 1, 2), {"bias": True, "nonnegative_input": True}),
        ((1, 4, 1), {"nonnegative_input": True}),
    ],
)
def test_layers_of_few_units_are_found_too(widths: tuple[int, ...], options: dict[str, Any]) -> None:
    network = RandomMLP(widths, **{"n": 14, **options})
    target = slow.mlp(*widths, bias=network.bias)
    ticket, model = network.find(target), network.model()
    ticket.put(model, 0)
    x = unit_ball(500, widths[0], nonnegative=network.nonnegative_input)
    assert measured_error(model, 0, target, x) <= ticket.certificate() < 0.1


def test_a_saved_ticket_is_loaded_with_its_network(tmp_path: Path) -> None:
    random, target = network(), slow.mlp(*WIDTHS)
    model = random.model()
    random.find(target).put(model, 0)
    save_pretrained(model, tmp_path / "store")
    loaded = from_pretrained(tmp_path / "store", constructor=random_blocks)
    x = unit_ball(20, WIDTHS[0]).float()
    assert torch.equal(loaded(x, task=0), model(x, task=0))
