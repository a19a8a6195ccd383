"""Mixtures of experts, learned or sealed, against the sum that they stand for."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neuromod import (
    Affine,
    Bernoulli,
    Gate,
    Generated,
    Head,
    Kind,
    LowRankDelta,
    Mixture,
    Modulated,
    Modulator,
    Rank1,
    RefusedError,
    Site,
    Table,
    Target,
    Threshold,
    TopK,
    bake,
)
from neuromod.kinds.masks import Mask
from neuromod.sources.base import by_site
from tasks.networks import mlp
from tests.contract.laws import close
from tests.target.test_taps import moved

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
KINDS: list[tuple[Kind, str]] = [
    (TopK(0.4), "weights"),
    (Threshold(), "weights"),
    (Bernoulli(), "weights"),
    (Bernoulli(rescale=True), "weights"),
    (LowRankDelta(2, alpha=3.0), "weights"),
    (Rank1(), "weights"),
    (Rank1("hard"), "weights"),
    (Generated(), "weights"),
    (Affine("uniform"), "norms"),
    (Gate("doubled"), "norms"),
    (Gate("hard"), "norms"),
    (Head(), "head"),
]


def target() -> Target:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Target(mlp((12,), 5, (10, 8), norm="layer", bias=True).double(), X)


def sites(t: Target, role: str) -> tuple[Site, ...]:
    found: tuple[Site, ...] = getattr(t, role)()
    return found


def sealed(kind: Kind, role: str, tasks: int = 3) -> tuple[Modulated, Modulator, list[dict[str, Tensor]]]:
    """A model of sealed tasks, its modulator, and the edits of each task while it was live."""
    t = target()
    modulator = Modulator(kind, Table(tasks), sites(t, role), seed=3)
    model = moved(Modulated(t, modulator)).eval()
    with torch.no_grad():
        edits = [model.edits(task=task) for task in range(tasks)]
    for task in range(tasks):
        model.seal(task)
    return model, modulator, edits


@pytest.mark.parametrize(("kind", "role"), KINDS)
@torch.no_grad()
def test_a_blend_of_sealed_tasks_is_the_sum_of_their_edits(kind: Kind, role: str) -> None:
    model, modulator, edits = sealed(kind, role)
    t = model.target
    experts = modulator.blended()
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    raws = by_site({key: torch.tensordot(weights, value.double(), 1) for key, value in experts.items()})
    for site in modulator.sites:
        for name, value in kind.edits(site, raws[site.label], t.tensors()).items():
            expected = sum(float(w) * edit[name] for w, edit in zip(weights, edits, strict=True))
            close(value, expected)


@pytest.mark.parametrize("form", ["softmax", "sigmoid", "hard"])
@pytest.mark.parametrize(("kind", "role"), [(Threshold(), "weights"), (Affine("uniform"), "norms")])
def test_routing_over_sealed_tasks_is_its_equation(kind: Kind, role: str, form: Any) -> None:
    model, modulator, edits = sealed(kind, role)
    t = model.target
    source = Mixture(modulator.blended(), "input", form=form, hidden=7)
    routed = moved(Modulated(t, Modulator(kind, source, modulator.sites, seed=5)))
    for training in (True, False):
        routed.train(training)
        output = routed(X)
        weights, index = source.weights(routed.context((X,), None, None))
        assert index is not None
        assert index.tolist() == list(range(len(X)))
        body = torch.relu(torch.nn.functional.linear(X, *source.body.parameters()))
        logits = body @ source.router["weight"].T + source.router["bias"]
        expected = {
            "softmax": logits.softmax(1),
            "sigmoid": logits.sigmoid(),
            "hard": (logits == logits.amax(1, keepdim=True)).double(),
        }[form]
        close(weights, expected)
        for i, row in enumerate(expected):
            edit = {name: sum(w * e[name] for w, e in zip(row, edits, strict=True)) for name in edits[0]}
            close(output[i : i + 1], routed.skeleton(edit, (X[i : i + 1],)))
    learnt = [n for n, _ in routed.named_parameters()]
    assert learnt
    assert not [n for n in learnt if "experts" in n]


def test_hard_routing_trains_the_router_and_runs_one_call_an_expert() -> None:
    model, modulator, _ = sealed(Threshold(), "weights", tasks=2)
    source = Mixture(modulator.blended(), "input", form="hard", hidden=7)
    routed = moved(Modulated(model.target, Modulator(Threshold(), source, modulator.sites, seed=5)))
    routed(X).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in routed.parameters())
    calls: list[int] = []
    routed.skeleton.net.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    routed.eval()(X)
    chosen = source.weights(routed.context((X,), None, None))[0].argmax(1)
    assert sorted(calls) == sorted(chosen.bincount()[chosen.bincount() > 0].tolist())
    assert len(calls) == 2


def test_learned_experts_start_as_the_kind_does_and_differ() -> None:
    t = target()
    source = Mixture(3, "input", hidden=4)
    Modulated(t, Modulator(TopK(), source, t.weights("1.weight"), seed=5))
    first, second, _ = source.experts["1/weight/score"].detach()
    assert not torch.equal(first, second)
    assert float(first.abs().max()) <= 12**-0.5
    weights, _ = source.weights(Modulated(t).context((X,), None, None))
    assert torch.equal(weights, torch.full((6, 3), 1 / 3, dtype=torch.float64))


def test_a_part_of_the_sealed_tasks_can_be_chosen() -> None:
    _, modulator, edits = sealed(Generated(), "weights")
    key = "1/weight/weight"
    assert torch.equal(modulator.blended(2, 0)[key], torch.stack([edits[2]["1.weight"], edits[0]["1.weight"]]))


def test_state_and_bytes_of_sealed_experts_survive() -> None:
    model, modulator, _ = sealed(Threshold(), "weights", tasks=2)
    build = lambda: Modulated(  # noqa: E731
        model.target,
        Modulator(Threshold(), Mixture(modulator.blended(), "input", hidden=7), modulator.sites, seed=5),
    )
    first, second = moved(build()), build()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(X), second(X))
    assert isinstance(modulator.kind, Mask)
    assert set(modulator.blended()["1/weight/factor"].unique().tolist()) == {0.0, 1.0}


def test_hard_routing_by_the_task_is_sealed_baked_and_edited() -> None:
    t = target()
    source = Mixture(3, "task", form="hard", tasks=4, hidden=5)
    model = Modulated(t, Modulator(Affine("uniform"), source, t.norms(), seed=5)).eval()
    with torch.no_grad():
        for parameter in source.router.values():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ids = [0, 1, 2, 3, 0, 1]
    before = model(X, task=ids)
    experts = source.weights(model.context((X,), ids))[0].argmax(1)
    assert len(set(experts.tolist())) > 1
    for task in range(4):
        close(bake(model, task=task)(X), model(X, task=task))
    for task in (2, 0, 1, 3):
        model.seal(task)
        close(model(X, task=ids), before)


@pytest.mark.parametrize("form", ["softmax", "hard"])
@pytest.mark.parametrize("kind", [Rank1(), LowRankDelta(2)])
def test_blended_deltas_are_built_for_each_sample(kind: Kind, form: Any) -> None:
    model, modulator, edits = sealed(kind, "weights")
    source = Mixture(modulator.blended(), "input", form=form, hidden=7)
    routed = moved(Modulated(model.target, Modulator(kind, source, modulator.sites, seed=5))).eval()
    weights, _ = source.weights(routed.context((X,)))
    for i, row in enumerate(weights):
        edit = {name: sum(w * e[name] for w, e in zip(row, edits, strict=True)) for name in edits[0]}
        close(routed(X)[i : i + 1], routed.skeleton(edit, (X[i : i + 1],)))


def test_mixtures_run_in_mixed_precision() -> None:
    model, modulator, _ = sealed(Affine("uniform"), "norms")
    source = Mixture(modulator.blended(), "input", hidden=7)
    routed = Modulated(model.target, Modulator(Affine(), source, modulator.sites, seed=5)).float()
    with torch.autocast("cpu", torch.bfloat16):
        routed.train()(X.float()).float().sum().backward()


def test_refusals() -> None:
    t = target()
    modulator = Modulator(Threshold(), Table(2), t.weights("*"), seed=3)
    model = Modulated(t, modulator)
    with pytest.raises(RefusedError, match=r"takes sealed tasks; none is; call seal"):
        modulator.blended()
    model.seal(0)
    with pytest.raises(RefusedError, match=r"takes sealed tasks; task 1 is not"):
        modulator.blended(0, 1)
    with pytest.raises(RefusedError, match="at least two experts"):
        Mixture(modulator.blended(), "input")
    with pytest.raises(RefusedError, match="at least two experts"):
        Mixture(1, "input")
    with pytest.raises(RefusedError, match=r"'softmx'; try 'softmax'"):
        Mixture(2, "input", form="softmx")  # type: ignore[arg-type]
    model.seal(1)
    with pytest.raises(RefusedError, match=r"sites that they were sealed at; '4.weight'"):
        Modulated(t, Modulator(Threshold(), Mixture(modulator.blended(), "input"), t.weights("1.weight"), seed=0))
