"""Masks that are allocated as batches come: what is counted, what is asked when, and runs that go on where they ended."""

import pytest
import torch

from neuromod import Bank, Modulated, Modulator, Recipe, Table, Target, Threshold
from neuromod.inference import Standout, Verified, brute_force, one_shot
from neuromod.inference.objectives import objective
from tasks.config.load import load
from tasks.continual.allocation import Allocation
from tasks.continual.online import lengths
from tasks.continual.streams import permuted
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.networks import mlp
from tasks.runs.files import read_json
from tasks.runs.run import Run
from tests.tasks.continual.runs import result

TINY = ["experiment=supsup/online", "data=tiny", "stream.tasks=3", "steps=120", "batch=16", "outputs=40", "device=cpu"]
TINY += ["target.kwargs.hidden=[32]", "optimizer.lr=0.01", "evaluation.batch=50", "log_every=10", "save_every=50"]


def run(root, data, *overrides):
    return execute(load([*TINY, data, *overrides]), root=root, command=["x"], results=root)


# ---- rules -------------------------------------------------------------------------------------------------------------


def model(tasks: int) -> tuple[Modulated, torch.Tensor]:
    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(1)).double()
    net = Recipe(mlp, {"shape": (6,), "outputs": 7, "hidden": (16,)}, init="kaiming_normal", seed=2).build().double()
    target = Target(net, x)
    return Modulated(target, Modulator(Threshold(), Table(tasks), target.weights("*"), seed=3)).eval(), x


def test_standout_is_the_rule_of_the_paper() -> None:
    network, x = model(6)
    nu = torch.softmax(one_shot(network, x, tasks=range(6)).sum(0) / 9, 0)
    for eps in (-1.0, float(6 * nu.max()) - 1 - 1e-6, float(6 * nu.max()) - 1 + 1e-6):
        found = Standout(eps).decide(network, x, range(6))
        assert found == (int(nu.argmax()) if 6 * float(nu.max()) >= 1 + eps else None)
    network.seal(0)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    few = Standout(-1.0).decide(network, x, [4, 2])
    # Of five masks, three stand in as they would start; one of those is no answer.
    more, _ = model(9)
    spare = one_shot(more, x, tasks=[4, 2, 6, 7, 8]).sum(0).argmax()
    assert few == (None if int(spare) > 1 else [4, 2][int(spare)])
    after = network.state_dict()
    assert kept.keys() == after.keys()
    assert all(torch.equal(kept[name], after[name]) for name in kept)


def test_verified_asks_the_likely_ones_for_their_margin() -> None:
    network, x = model(6)
    margins = brute_force(network, x, tasks=range(6), objective=objective("margin", 4)).mean(0)
    likely = one_shot(network, x, tasks=range(5)).sum(0).topk(2).indices.tolist()
    best = max([*likely, 5], key=lambda task: float(margins[task]))
    for threshold in (float(margins[best]) - 1e-6, float(margins[best]) + 1e-6):
        rule = Verified(4, threshold, best=2)
        assert rule.decide(network, x, range(5), always=[5]) == (best if threshold <= margins[best] else None)
    for task in range(5):
        network.seal(task)
    assert Verified(4, -100.0, best=2).decide(network, x, range(5), Bank(network, range(5)), always=[5]) == best


# ---- what is counted ---------------------------------------------------------------------------------------------------


def test_an_allocation_counts_masks_mistakes_and_late_batches() -> None:
    allocation = Allocation()
    for task, mask, batches in ((0, 0, 5), (1, 0, 1), (1, 1, 4), (2, 1, 7), (3, 2, 3), (3, 3, 2)):
        for _ in range(batches):
            allocation.note(task, mask)
    assert allocation.runs == [[0, 0, 5], [1, 0, 1], [1, 1, 4], [2, 1, 7], [3, 2, 3], [3, 3, 2]]
    assert [allocation.mask_of(task) for task in range(4)] == [0, 1, 1, 2]
    found = allocation.summary(range(4))
    # Tasks 1 and 2 share mask 1 (one mistake), task 3 has masks 2 and 3 (another).
    assert (found["masks"], found["tasks"], found["mistakes"], found["late"]) == (4, 4, 2, 5)


def test_lengths_are_drawn_within_the_jitter(tiny) -> None:
    stream = permuted(tiny, 30, 0)
    assert lengths(stream, 100, 0.0, 1) == [100] * 30
    drawn = lengths(stream, 100, 0.5, 1)
    assert len(set(drawn)) > 10
    assert all(50 <= n <= 150 for n in drawn)
    assert drawn == lengths(stream, 100, 0.5, 1) != lengths(stream, 100, 0.5, 2)


# ---- runs --------------------------------------------------------------------------------------------------------------


def test_an_ended_run_ends_as_a_whole_one(data, tmp_path, monkeypatch) -> None:
    whole = run(tmp_path / "whole", data)
    save = Run.save

    def ends(self, tree, step):
        save(self, tree, step)
        if step == 200:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", ends)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "ended", data)
    monkeypatch.setattr(Run, "save", save)
    resumed = run(tmp_path / "ended", data)
    assert result(resumed) == result(whole)
    found = read_json(whole / "result.json")["measures"]["allocation"]
    assert found["tasks"] == 3
    assert sum(batches for _, _, batches in found["runs"]) == sum(lengths_of(whole))


def lengths_of(folder) -> list[int]:
    found: dict[int, int] = {}
    for task, _, batches in read_json(folder / "result.json")["measures"]["allocation"]["runs"]:
        found[task] = found.get(task, 0) + batches
    assert all(60 <= n <= 180 for n in found.values())
    return list(found.values())


def test_a_rule_must_be_known(data, tmp_path) -> None:
    with pytest.raises(UserError, match=r"allocation.rule must be one of .* got 'standut'; nearest: 'standout'"):
        run(tmp_path, data, "allocation.rule=standut")
