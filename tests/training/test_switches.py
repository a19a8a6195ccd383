"""Switches read off tuned networks, against the papers' equations, one place at a time."""

import pytest
import torch
from torch import nn

from neuromod import Modulated, Modulator, RefusedError, Switch, Table, Target, Threshold, read_switch, shared_delta
from tests.switch_calls import tuned_copy
from tests.target.test_delta import BASE, TUNED, X

FORMS = {"tall": ("sum", "mask"), "agree": ("elect", "mask"), "sign": ("ones", "sign"), "ternary": ("ones", "ternary")}


def read(rule: str, task: int = 1, **options: float) -> tuple[Modulated, nn.Module]:
    merge, form = FORMS[rule]
    net = shared_delta(BASE, TUNED, merge=merge)  # type: ignore[arg-type]
    target = Target(net, X)
    modulator = Modulator(Switch(form), Table(3), target.weights("*"))  # type: ignore[arg-type]
    model = Modulated(target, modulator)
    read_switch(modulator, task, TUNED[task], rule=rule, **options)  # type: ignore[arg-type]
    return model, net


def slow(rule: str, tau: torch.Tensor, delta: torch.Tensor, strength: float) -> torch.Tensor:
    """What is added to W, by the papers' sentences."""
    added = torch.zeros_like(tau)
    for place in range(tau.numel()):
        t, d = float(tau.flatten()[place]), float(delta.flatten()[place])
        if rule == "tall":
            added.view(-1)[place] = d if abs(t) >= strength * abs(d - t) else 0.0
        elif rule == "agree":
            added.view(-1)[place] = d if t * d > 0 else 0.0
        elif rule == "sign" or abs(t) >= strength * float(tau.square().mean().sqrt()):
            added.view(-1)[place] = d if t * d > 0 else -d
    if rule == "agree":
        return added * tau.abs().sum() / added.abs().sum()
    kept = tau[added != 0]  # D is 1: the scale is the mean of what is kept
    return added * kept.abs().mean() if rule in ("sign", "ternary") else added


@pytest.mark.parametrize("strength", [0.2, 1.0])
@pytest.mark.parametrize("rule", FORMS)
def test_what_is_read_off_is_the_papers(rule: str, strength: float) -> None:
    model, net = read(rule, strength=strength)
    edits = model.edits(task=1)
    for name in ("0.weight", "2.weight"):
        base = dict(BASE.named_parameters())[name].detach()
        tau = dict(TUNED[1].named_parameters())[name].detach() - base
        expected = base + slow(rule, tau, dict(net.named_buffers())[f"{name}_delta"], strength)
        torch.testing.assert_close(edits[name], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", [rule for rule in FORMS if rule != "ternary"])
def test_scores_have_the_size_of_drawn_ones(rule: str) -> None:
    model, _ = read(rule)
    row = model.named_modulators()["switch"].source.own(1)
    assert float(row["0/weight/score"].detach().square().mean().sqrt()) == pytest.approx((3 * 6) ** -0.5, rel=1e-5)


def test_one_tuned_network_alone_is_found_again() -> None:
    net = shared_delta(BASE, [TUNED[0]])
    target = Target(net, X)
    modulator = Modulator(Switch(), Table(1), target.weights("*"))
    model = Modulated(target, modulator)
    read_switch(modulator, 0, TUNED[0], rule="tall")
    for name, value in model.edits(task=0).items():
        torch.testing.assert_close(value, dict(TUNED[0].named_parameters())[name].detach())


def test_switches_with_nothing_to_act_on_are_refused() -> None:
    target = Target(BASE, X)
    with pytest.raises(RefusedError, match=r"'0\.weight' has none; make the network with shared_delta"):
        Modulated(target, Modulator(Switch(), Table(1), target.weights("*")))


def test_a_rule_is_of_the_form_of_its_switch() -> None:
    model, _ = read("tall")
    switch = model.named_modulators()["switch"]
    target = Target(tuned_copy(BASE, 3), X)
    mask = Modulator(Threshold(), Table(1), target.weights("*"))
    Modulated(target, mask)
    for call, words in (
        (lambda: read_switch(switch, 0, TUNED[0], rule="sign"), "the rule 'sign' is of a Switch of form 'sign'"),
        (lambda: read_switch(mask, 0, TUNED[0], rule="tall"), "got Threshold"),
        (lambda: read_switch(switch, 0, TUNED[0], rule="tal"), "try 'tall'"),  # type: ignore[arg-type]
        (lambda: read_switch(switch, 0, TUNED[0], rule="tall", strength=0), "strength"),
        (lambda: read_switch(switch, 7, TUNED[0], rule="tall"), "a task must be live"),
    ):
        with pytest.raises(RefusedError, match=words):
            call()
