"""Rules of task inference against loops that read like them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from neuromod import RefusedError
from neuromod.inference import (
    OBJECTIVES,
    Calibration,
    InferenceRule,
    brute_force,
    choose,
    fit_calibration,
    halving,
    infer,
    one_shot,
    verify,
)
from neuromod.inference.choice import cost
from neuromod.inference.objectives import objective
from tests.inference.test_inference import X, close, draw, masked, slow_entropy

REAL = 3
LOGITS = draw(6, 5, seed=3)
MAX_LOGIT = objective("max_logit")


# ---- objectives --------------------------------------------------------------------------------------------------------


def slow_objective(name: str, z: Tensor) -> float:
    e = [math.exp(float(v)) for v in z]
    total, real, spare = sum(e), sum(e[:REAL]), sum(e[REAL:])
    return {
        "entropy": sum(-v / total * math.log(v / total) for v in e),
        "surplus": math.log(spare),
        "margin": -math.log(real / spare),
        "max_probability": -max(e[:REAL]) / total,
        "max_logit": -max(float(v) for v in z[:REAL]),
        "energy": -math.log(real),
    }[name]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name: str) -> None:
    found = objective(name, REAL)(LOGITS)
    close(found, torch.tensor([slow_objective(name, z) for z in LOGITS], dtype=torch.float64))


def test_the_gradient_of_surplus_is_that_of_the_paper_up_to_a_factor() -> None:
    z = LOGITS[0].clone().requires_grad_()
    (ours,) = torch.autograd.grad(objective("surplus", REAL)(z), z)
    stopped = torch.cat([z[:REAL].detach(), z[REAL:]])
    (paper,) = torch.autograd.grad(torch.logsumexp(stopped, 0), z)
    spare = torch.softmax(LOGITS[0], 0)[REAL:].sum()
    close(paper, ours * spare)


def test_objectives_that_need_surplus_outputs() -> None:
    for name in ("surplus", "margin"):
        for real in (None, 5):
            with pytest.raises(RefusedError, match=rf"{name} compares real with surplus outputs; got real={real} of 5"):
                objective(name, real)(LOGITS)
    with pytest.raises(RefusedError, match=r"got 'margn'; try .*margin"):
        objective("margn")


# ---- methods -----------------------------------------------------------------------------------------------------------


def test_one_shot_of_a_group_is_the_sum_over_its_inputs() -> None:
    model = masked()
    single = one_shot(model, X, tasks=range(4))
    close(one_shot(model, X, tasks=range(4), group=3), torch.stack([single[:3].sum(0), single[3:6].sum(0)]))
    close(one_shot(model, X, tasks=range(4), group=7), single.sum(0, keepdim=True))
    with pytest.raises(RefusedError, match="a group has 1 to B=7 inputs; got group=8"):
        one_shot(model, X, tasks=range(4), group=8)


@pytest.mark.parametrize("tasks", [5, 4, 3, 2, 1])
@pytest.mark.parametrize("group", [1, 3])
def test_halving_drops_the_half_with_the_larger_slope(tasks: int, group: int) -> None:
    model = masked(tasks)
    found = halving(model, X, tasks=range(tasks), group=group, chunk=2)
    E = [model.edits(task=task) for task in range(tasks)]
    for g in range(7 // group):
        left, survived = list(range(tasks)), [0.0] * tasks
        while len(left) > 1:
            alphas = torch.zeros(tasks, dtype=torch.float64)
            alphas[left] = 1 / len(left)
            alphas.requires_grad_()
            mixed = {name: sum(alphas[i] * E[i][name].detach() for i in range(tasks)) for name in E[0]}
            logits = model.skeleton(mixed, (X[g * group : (g + 1) * group],))
            (slope,) = torch.autograd.grad(sum(slow_entropy(z) for z in logits), alphas)
            left = sorted(left, key=lambda i: float(slope[i]))[: math.ceil(len(left) / 2)]
            for i in left:
                survived[i] += 1
        assert found[g].tolist() == survived
    assert found.max() == math.ceil(math.log2(tasks))


def test_verify_is_brute_force_where_a_task_is_likely() -> None:
    model = masked()
    likely = torch.tensor([[2, 0], [1, 2], [3, 0], [0, 1], [2, 1], [2, 3], [1, 0]])
    found, every = verify(model, X, likely, tasks=[3, 1, 0, 2]), brute_force(model, X, tasks=[3, 1, 0, 2])
    asked = torch.zeros(7, 4, dtype=torch.bool).scatter_(1, likely, True)
    close(found[asked], every[asked])
    assert bool((found[~asked] == -torch.inf).all())


# ---- infer -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [1, 3])
def test_infer_is_the_best_score_and_says_how_sure(group: int) -> None:
    model, tasks = masked(), (2, 0, 3)
    for rule, single in (
        (InferenceRule("one_shot"), one_shot(model, X, tasks=tasks)),
        (
            InferenceRule("one_shot", "max_logit", ("1.weight",)),
            one_shot(model, X, tasks=tasks, objective=MAX_LOGIT, sites=["1.weight"]),
        ),
        (
            InferenceRule("brute_force", "margin", real=REAL),
            brute_force(model, X, tasks=tasks, objective=objective("margin", REAL)),
        ),
    ):
        found = infer(model, X, rule, tasks=tasks, group=group)
        scores = single[: 7 // group * group].view(-1, group, 3).sum(1)
        close(found.scores, scores)
        assert found.task.tolist() == [tasks[i] for i in scores.argmax(1).tolist()]
        close(found.confidence, torch.stack([torch.softmax(s, 0).max() for s in scores]))
        assert found.known.tolist() == [bool(3 * torch.softmax(s, 0).max() >= 1.125) for s in scores]


def test_infer_by_the_best_few_verified() -> None:
    model, rule = masked(), InferenceRule("verified", "margin", real=REAL, best=2)
    found = infer(model, X, rule, group=3)
    coarse, fine = (
        one_shot(model, X, tasks=range(4), group=3),
        brute_force(model, X, tasks=range(4), objective=objective("margin", REAL)),
    )
    for g in range(2):
        best = coarse[g].topk(2).indices.tolist()
        sums = {task: float(fine[3 * g : 3 * g + 3, task].sum()) for task in best}
        assert int(found.task[g]) == max(sums, key=sums.__getitem__)
        assert {i for i, s in enumerate(found.scores[g].tolist()) if s > -math.inf} == set(best)
    whole = infer(model, X, replace(rule, best=9))
    close(whole.scores, fine)


def test_none_of_these_and_one_of_one() -> None:
    model = masked()
    assert infer(model, X, tasks=[1]).known.all()
    sure, unsure = infer(model, X, eps=-1.0), infer(model, X, eps=1e9)
    assert bool(sure.known.all())
    assert not bool(unsure.known.any())


def test_calibration_brings_tasks_to_one_scale() -> None:
    model = masked()
    data = {task: draw(9, 6, seed=20 + task) for task in (3, 1)}
    for rule in (InferenceRule("brute_force", "energy", real=REAL), InferenceRule("one_shot")):
        fitted = fit_calibration(model, data, rule)
        for place, x in enumerate(data.values()):
            own = infer(model, x, rule, tasks=(3, 1)).scores[:, place]
            close(fitted.mean[place], own.mean())
            close(fitted.std[place], own.std())
        raw = infer(model, X, rule, tasks=(3, 1)).scores
        found = infer(model, X, rule, tasks=(3, 1), calibration=fitted, group=2)
        close(found.scores, ((raw - fitted.mean) / fitted.std)[:6].view(3, 2, 2).sum(1))
    with pytest.raises(RefusedError, match="two held-out inputs per task; task 3 has 1"):
        Calibration.fit({3: draw(1)})
    with pytest.raises(RefusedError, match="it has 2, got 4; fit it anew"):
        infer(model, X, InferenceRule("brute_force"), calibration=fitted)
    with pytest.raises(RefusedError, match="halving counts rounds"):
        infer(model, X, InferenceRule("halving"), tasks=(3, 1), calibration=fitted)


def test_rules_that_do_not_exist() -> None:
    with pytest.raises(RefusedError, match=r"got 'oneshot'; try .*one_shot"):
        InferenceRule("oneshot")
    with pytest.raises(RefusedError, match="got 'entrpy'"):
        InferenceRule("one_shot", "entrpy")
    with pytest.raises(RefusedError, match="got best=0"):
        InferenceRule("verified", best=0)


# ---- choose ------------------------------------------------------------------------------------------------------------


def test_the_choice_is_the_cheapest_of_the_good_ones_and_says_why() -> None:
    model = masked()
    data = {task: draw(40, 6, seed=40 + task) for task in range(4)}
    made = choose(model, data, real=REAL)
    accuracy = {}
    for rule, right, price in made.tried:
        hits = torch.cat([infer(model, x, rule).task == task for task, x in data.items()]).double()
        assert right == pytest.approx(float(hits.mean()))
        accuracy[rule] = (right, price)
    best = max(right for right, _ in accuracy.values())
    error = math.sqrt(best * (1 - best) / 160)
    good = {rule: price for rule, (right, price) in accuracy.items() if right >= best - error}
    assert good[made.rule] == min(good.values())
    assert f"{made.rule.method} by {made.rule.objective}" in made.reason
    assert "over 4 tasks" in made.reason
    with pytest.raises(RefusedError, match="two tasks at least; got 1"):
        choose(model, {0: X})


def test_costs_grow_as_the_methods_do() -> None:
    assert cost(InferenceRule("brute_force"), 250) == 250
    assert (
        cost(InferenceRule("one_shot"), 250)
        < cost(InferenceRule("verified"), 250)
        < cost(InferenceRule("halving"), 250)
    )
    assert cost(InferenceRule("halving"), 1) == cost(InferenceRule("one_shot"), 1)
