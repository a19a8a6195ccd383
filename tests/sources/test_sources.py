"""Sources against their equations, and how they grow."""

import math

import pytest
import torch
from torch import nn

from neuromod import (
    Affine,
    Gate,
    Generated,
    Head,
    Hypernet,
    LowRank,
    Modulated,
    Modulator,
    RefusedError,
    Table,
    Target,
    TopK,
)
from neuromod.sources.shared import spread_of
from tasks.networks import mlp
from tests import reference

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def target(hidden: tuple[int, ...] = (10, 8)) -> Target:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Target(mlp((12,), 5, hidden, norm="layer", bias=True).double(), X)


def shake(model: Modulated) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)).to(parameter) * 0.1)


def test_a_hypernetwork_row_is_its_equation() -> None:
    t = target()
    model = Modulated(t, Modulator(Affine(), Hypernet("task", tasks=2, hidden=6, embedding=3), t.norms(), seed=0))
    shake(model)
    state = dict(model.named_parameters())
    prefix = "modulators.affine.source."
    code = state[f"{prefix}codes.table.1"]
    layer = (state[f"{prefix}body.1.weight"], state[f"{prefix}body.1.bias"])
    edits = model.edits(task=1)
    for part, offset in (("gain", torch.ones(10)), ("bias", torch.zeros(10))):
        head, shift = state[f"{prefix}head.2/{part}"], state[f"{prefix}shift.2/{part}"]
        body = lambda c: torch.relu(reference.mlp(c, [layer]))  # noqa: E731
        expected = reference.hypernet_row(code, body, head, shift, offset.double(), 1.0)
        assert torch.allclose(edits[f"2.tap_{part}"], expected, rtol=1e-12)


def test_a_low_rank_row_is_its_equation() -> None:
    t = target()
    model = Modulated(t, Modulator(TopK(1.0), LowRank(3, tasks=2), t.weights("1.weight"), seed=0))
    shake(model)
    source = model.modulators["topk"].source
    key = "1/weight/score"
    row = model.modulators["topk"](model.context((X,), 1, None)).row(0)[key]
    offset = dict(source.offset.named_buffers())[key]
    expected = reference.low_rank_row(source.codes.table["1"], source.basis[key], offset)
    assert torch.allclose(row, expected, rtol=1e-12)
    assert not torch.allclose(row, offset)


def test_chunks_make_a_hypernetwork_smaller_than_what_it_generates() -> None:
    t = target((300, 200))
    model = Modulated(t, Modulator(Generated(), Hypernet("task", hidden=16, chunk=256), t.weights("*"), seed=0))
    generated = sum(math.prod(s.shape) for s in t.weights("*"))
    assert sum(p.numel() for p in model.parameters()) < generated / 4


def test_generated_weights_start_at_the_scale_of_their_layer() -> None:
    t = target((300, 200))
    model = Modulated(t, Modulator(Generated(), Hypernet("task", hidden=64, chunk=512), t.weights("*"), seed=0))
    for site in t.weights("*"):
        ratio = float(model.edits(task=0)[site.name].detach().std()) / math.sqrt(2 / site.fan_in)
        assert 0.5 < ratio < 2, site.name
    assert float(model(X, task=0).detach().abs().max()) < 30


def test_a_code_read_from_an_activation() -> None:
    t = target()
    model = Modulated(t, Modulator(Affine(), Hypernet("activation:1", hidden=6), t.norms("5"), seed=0)).eval()
    shake(model)
    seen: list[torch.Tensor] = []
    model.modulators["affine"].source.body.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    together = model(X)
    assert torch.allclose(seen[0], t.pristine[1](X), rtol=1e-12)
    assert torch.allclose(together, torch.cat([model(X[i : i + 1]) for i in range(6)]), rtol=1e-9)
    assert not torch.allclose(together, t(X))
    with pytest.raises(RefusedError, match="'9'"):
        Modulated(t, Modulator(Affine(), Hypernet("activation:9"), t.norms("5"), seed=0))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 1 / 3])
def test_the_spread_of_a_constant_start_is_nothing(value: float) -> None:
    assert spread_of(torch.full((128,), value)) == 0.0
    assert spread_of(torch.linspace(-1, 1, 101)) == pytest.approx(0.586, abs=1e-3)


def test_what_is_added_to_scores_has_their_spread_and_to_gates_their_unit() -> None:
    t = target()
    for kind, sites, expected in (
        (TopK(), t.weights("1.weight"), 12**-0.5 / 3**0.5),
        (Gate("hard"), t.norms("2"), 1.0),
    ):
        model = Modulated(t, Modulator(kind, Hypernet("task", hidden=6), sites, seed=0))
        before = model.rows(X, task=0)
        with torch.no_grad():
            for shift in next(iter(model.modulators.values())).source.shift.values():
                shift += 1
        (key,) = next(iter(before.values())).row(0)
        after = next(iter(model.rows(X, task=0).values())).row(0)[key]
        moved = (after - next(iter(before.values())).row(0)[key]).detach()
        assert torch.allclose(moved, torch.full_like(moved, expected), rtol=0.2)


def test_the_users_own_body_is_trained() -> None:
    t = target()
    body = nn.Sequential(nn.Linear(12, 7), nn.Tanh()).double()
    model = Modulated(t, Modulator(Affine(), Hypernet("input", body=body), t.norms(), seed=0))
    shake(model)
    model(X).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in body.parameters())


def test_a_task_joins_under_a_running_optimiser() -> None:
    t = target()
    model = Modulated(t, Modulator(Affine("uniform"), Table(tasks=1), t.norms(), seed=0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(X, task=0).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.add_param_group({"params": model.add(7)})
    model(X, task=7).sum().backward()
    optimizer.step()
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    start = Modulated(t, Modulator(Affine("uniform"), Table(tasks=[7]), t.norms(), seed=0))
    assert not torch.equal(
        after["modulators.affine.source.rows.7.2/gain"],
        dict(start.named_parameters())["modulators.affine.source.rows.7.2/gain"],
    )


def test_the_start_of_a_task_depends_on_seed_and_task_alone() -> None:
    t = target()
    build = lambda tasks: Modulated(t, Modulator(TopK(), Table(tasks=tasks), t.weights("*"), seed=4))  # noqa: E731
    many, late = build(4), build([])
    late.add(3)
    key = "modulators.topk.source.rows.3.1/weight/score"
    assert torch.equal(dict(many.named_parameters())[key], dict(late.named_parameters())[key])
    assert not torch.equal(
        dict(many.named_parameters())[key], dict(many.named_parameters())[key.replace("rows.3", "rows.2")]
    )


def test_loading_grows_and_drops_tasks_and_widths() -> None:
    t = target()
    wide = Modulated(t, Modulator(Head(), Table(tasks=1), t.head(), seed=0))
    wide.modulators["head"].add(5, width=3)
    narrow = Modulated(t, Modulator(Head(), Table(tasks=3), t.head(), seed=1))
    narrow.load_state_dict(wide.state_dict())
    assert narrow.tasks() == (0, 5)
    assert torch.equal(narrow(X, task=5), wide(X, task=5))
    assert narrow(X, task=5).shape == (6, 3)
    mixed = narrow(X, task=[0, 5, 0, 5, 5, 0])
    assert mixed.shape == (6, 5)
    assert bool(torch.isinf(mixed[1, 3:]).all())
