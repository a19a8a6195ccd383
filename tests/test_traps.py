"""Traps of wrapping a network from outside, each as the smallest network that falls into it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuromod import (
    Affine,
    Bernoulli,
    Gate,
    Head,
    Hypernet,
    Kind,
    LowRankDelta,
    Modulated,
    Modulator,
    RefusedError,
    Statistics,
    Table,
    Target,
    Threshold,
    TopK,
    bake,
    calibrate,
)
from neuromod.surrogates import top_k
from tasks.networks import conv, mlp

IDS = [0, 1, 1, 2, 0, 2]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def filled(net: nn.Module) -> Any:
    """The network in float64, every parameter drawn, so that nothing is 0 or 1 by chance."""
    with torch.no_grad():
        for seed, parameter in enumerate(net.double().parameters()):
            parameter.copy_(0.5 * draw(*parameter.shape, seed=seed + 100))
    return net


def moved(model: Modulated) -> Modulated:
    """The model with its parameters away from their start."""
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter += 0.5 * draw(*parameter.shape, seed=seed + 500).to(parameter)
    return model


def close(a: Tensor, b: Tensor, rtol: float = 1e-9) -> None:
    a, b = a.detach(), b.detach()
    assert a.shape == b.shape
    assert float(b.abs().max()) > 1e-3
    assert float((a - b).abs().max()) <= rtol * float(b.abs().max())


def mixed_equals_singles(model: Modulated, x: Tensor, axis: int = 0, out_axis: int = 0) -> None:
    """In outputs and gradients; and tasks differ."""
    weights = draw(*model(x, task=IDS).shape, seed=9)
    mixed = model(x, task=IDS)
    singles = torch.cat([model(x.narrow(axis, i, 1), task=t) for i, t in enumerate(IDS)], out_axis)
    close(mixed, singles)
    assert float((mixed - model(x, task=0)).detach().abs().max()) > 1e-3
    parameters = list(model.parameters())
    found = torch.autograd.grad((mixed * weights).sum(), parameters)
    expected = torch.autograd.grad((singles * weights).sum(), parameters)
    close(torch.cat([g.flatten() for g in found]), torch.cat([g.flatten() for g in expected]))


# ---- tied weights ------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(9, 6), nn.Linear(6, 9)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.tanh(self.embedding(tokens)).mean(1))


TOKENS = torch.randint(0, 9, (6, 4), generator=torch.Generator().manual_seed(0))


def test_tied_weights_are_one_site_under_either_name() -> None:
    target = Target(filled(Tied()), TOKENS)
    sites = target.weights("*")
    assert [s.name for s in sites] == ["embedding.weight"]
    assert target.weights("out.weight") == target.weights("embedding.weight") == target.weights("out*") == sites
    assert target.head() == sites
    model = moved(Modulated(target, Modulator(LowRankDelta(), Table(3), sites, seed=0)))
    W = model.edits(task=1)["embedding.weight"]
    by_hand = F.linear(torch.tanh(F.embedding(TOKENS, W)).mean(1), W, target.tensors()["out.bias"])
    close(model(TOKENS, task=1), by_hand)
    mixed_equals_singles(model, TOKENS)


def test_a_tap_behind_a_tied_layer_leaves_its_partner_alone() -> None:
    net = filled(Tied())
    target = Target(net, TOKENS)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("out"), seed=0)))
    row = {k.rpartition("/")[2]: v for k, v in model.named_parameters() if ".rows.1." in k}
    close(model(TOKENS, task=1), row["gain"] * net(TOKENS) + row["bias"])
    with pytest.raises(RefusedError, match="'out' is a Linear"):
        bake(model, task=1)  # folding would write the embedding too


def test_a_fold_never_touches_a_tied_norm() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.LayerNorm(6), nn.LayerNorm(6), nn.Linear(6, 3)
            self.b.weight, self.b.bias = self.a.weight, self.a.bias

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.b(torch.tanh(self.a(x))))

    net, x = filled(Twins()), draw(6, 6)
    target = Target(net, x)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.norms("a"), seed=0)))
    row = {k.rpartition("/")[2]: v for k, v in model.named_parameters() if ".rows.2." in k}
    by_hand = net.out(net.b(torch.tanh(row["gain"] * net.a(x) + row["bias"])))
    close(model(x, task=2), by_hand)
    mixed_equals_singles(model, x)


# ---- modules that are called in unusual ways ---------------------------------------------------------------------------


def test_a_shared_activation_of_one_width_serves_all_its_calls() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act = nn.Linear(6, 5), nn.Linear(5, 5), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.b(self.act(self.a(x))))

    net, x = filled(Shared()), draw(6, 6)
    target = Target(net, x)
    (site,) = target.outputs(nn.ReLU)
    model = moved(Modulated(target, Modulator(Gate("doubled"), Table(3), [site], seed=0)))
    gain = 2 * torch.sigmoid(next(v for k, v in model.named_parameters() if ".rows.1." in k))
    close(model(x, task=1), gain * torch.relu(net.b(gain * torch.relu(net.a(x)))))
    mixed_equals_singles(model, x)


def test_a_sequence_as_the_root_keeps_its_layers_and_names() -> None:
    net, x = filled(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))), draw(6, 6)
    target = Target(net, x)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), target.outputs("0", "1", "2"), seed=0)))
    rows = {k.partition(".rows.1.")[2]: v for k, v in model.named_parameters() if ".rows.1." in k}
    h = x
    for i in range(3):  # a tap that were a submodule of a Sequential would be run as a layer
        h = rows[f"{i}/gain"] * net[i](h) + rows[f"{i}/bias"]
    close(model(x, task=1), h)
    mixed_equals_singles(model, x)
    assert len(net) == 3
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize("batch_first", [True, False])
def test_taps_inside_a_transformer_fire_in_evaluation_and_in_training(batch_first: bool) -> None:
    layer = filled(nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=batch_first)).eval()
    x = draw(6, 6, 8)  # as long as the batch: time must not be taken for it
    axis = 0 if batch_first else 1
    target = Target(layer, x, batch_axis=axis)
    model = moved(Modulated(target, Modulator(Gate(), Table(3), target.outputs("linear1"), seed=0)))
    gain = torch.sigmoid(next(v for k, v in model.named_parameters() if ".rows.1." in k))
    h = layer.norm1(x + layer.self_attn(x, x, x, need_weights=False)[0])
    by_hand = layer.norm2(h + layer.linear2(torch.relu(gain * layer.linear1(h))))
    for mode in (False, True):
        close(model.train(mode)(x, task=1), by_hand)
        mixed_equals_singles(model, x, axis, axis)
    with torch.no_grad():
        close(model.eval()(x, task=1), by_hand)
        assert float((target(x) - by_hand).detach().abs().max()) > 1e-3


class TimeFirst(nn.Module):
    """(T, B, D) inside and outside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.out = nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.norm(self.a(x))).cumsum(0))


@pytest.mark.parametrize("kind", [Affine(), Threshold()])
def test_a_time_first_network_as_long_as_its_batch(kind: Kind) -> None:
    x = draw(6, 6, 5)
    target = Target(filled(TimeFirst()), x, batch_axis=1)
    sites = target.norms() if isinstance(kind, Affine) else target.weights("*")
    model = moved(Modulated(target, Modulator(kind, Table(3), sites, seed=0)))
    mixed_equals_singles(model, x, 1, 1)


class Folded(nn.Module):
    """(B, T, D) as rows (B T, D) inside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.out = nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.out(torch.tanh(self.norm(self.a(x.flatten(0, 1)))))
        return rows.unflatten(0, x.shape[:2]).cumsum(1)


def test_a_network_that_folds_its_batch_into_rows() -> None:
    x = draw(6, 4, 5)
    target = Target(filled(Folded()), x)
    (site,) = target.norms()
    assert site.batch is None
    assert not Affine().gathers(site)
    model = moved(Modulated(target, Modulator(Affine(), Table(3), [site], seed=0)))
    mixed_equals_singles(model, x)
    gated = moved(Modulated(target, Modulator(Gate(), Hypernet("input", hidden=3), target.outputs("a"), seed=0)))
    close(gated(x), torch.cat([gated(x[i : i + 1]) for i in range(6)]))


# ---- what must not move ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_training_leaves_the_users_network_as_it_was(norm: str) -> None:
    net, x = filled(conv((2, 8, 8), 5, (4, 6))).train(), draw(6, 2, 8, 8)
    net[1].running_mean.copy_(draw(4, seed=3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    flags = {n: (m.training, m.__dict__.get("momentum")) for n, m in net.named_modules()}
    target = Target(net, x, norm=norm)  # type: ignore[arg-type]
    parts = [Modulator(Affine(), Table(3), target.norms(), seed=0)]
    if norm == "batch":
        parts.append(Modulator(Statistics(), Table(3), target.statistics(), seed=0))
    model = Modulated(target, *parts).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x, task=0).square().sum().backward()
        optimizer.step()
    for task in range(3) if norm == "batch" else ():
        calibrate(model, task, x + task)
    measured = {k: v.clone() for k, v in model.state_dict().items() if ".rows." in k}
    model.train()(x - 3, task=1)  # batch statistics: they update no buffer, not even a task's that stands in the net's
    assert all(torch.equal(measured[k], v) for k, v in model.state_dict().items() if k in measured)
    model.eval()(x, task=1)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert {n: (m.training, m.__dict__.get("momentum")) for n, m in net.named_modules()} == flags
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or hasattr(m, "tap_gain") for m in net.modules())
    target.verify()


def test_a_task_added_under_a_running_optimiser_moves_nobody_else() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), bias=True)), x)
    model = Modulated(target, Modulator(Threshold(), Table(3), target.weights("*"), seed=0)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)
    model(x, task=IDS).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    added = model.add(7)
    optimizer.add_param_group({"params": added})
    started = [p.detach().clone() for p in added]
    for _ in range(3):
        optimizer.zero_grad()
        model(x, task=7).square().sum().backward()
        optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(started, added, strict=True))
    assert all(torch.equal(v, before[k]) for k, v in model.named_parameters() if k in before)
    assert len(dict(model.named_parameters())) == len(before) + len(added)


def test_a_copy_shares_the_target_and_nothing_that_learns() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), bias=True)), x)
    model = Modulated(target, Modulator(LowRankDelta(), Table(3), target.weights("*"), seed=0)).eval()
    twin = copy.deepcopy(model)
    assert twin.target is model.target
    ours, theirs = ({k: v.data_ptr() for k, v in m.named_parameters()} for m in (model, twin))
    assert set(ours) == set(theirs)
    assert not set(ours.values()) & set(theirs.values())
    frozen, copied = (dict(m._skeleton.named_parameters()) for m in (model, twin))
    assert all(copied[k].data_ptr() == frozen[k].data_ptr() for k in frozen)  # no second copy of the weights
    expected = model(x, task=1)
    moved(twin)
    assert torch.equal(model(x, task=1), expected)
    assert not torch.equal(twin(x, task=1), expected)


# ---- masks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Threshold(), TopK(density=0.4)])
def test_a_weight_that_is_masked_out_can_grow_back(kind: Kind) -> None:
    x = draw(6, 6)
    net = filled(nn.Sequential(nn.Linear(6, 5)))
    target = Target(net, x)
    model = Modulated(target, Modulator(kind, Table(1), target.weights("*"), seed=0))
    (score,) = model.parameters()
    weight = model.edits(task=0)["0.weight"].detach().requires_grad_()
    out = draw(6, 5, seed=2)
    (dense,) = torch.autograd.grad((F.linear(x, weight, net[0].bias) * out).sum(), weight)
    (model(x, task=0) * out).sum().backward()
    off = weight == 0
    assert 0 < int(off.sum()) < off.numel()
    sign = score.detach().sign() if isinstance(kind, TopK) else 1.0
    close(score.grad, dense * net[0].weight.detach() * sign)  # type: ignore[arg-type]
    assert float(score.grad[off].abs().min()) > 0  # type: ignore[index]


def test_scores_in_channels_last() -> None:
    x = draw(6, 2, 8, 8)
    target = Target(filled(conv((2, 8, 8), 5, (4, 6))), x)
    for kind in (Threshold(), TopK(density=0.3), Bernoulli(rescale=True), LowRankDelta()):
        model = moved(Modulated(target, Modulator(kind, Table(3), target.weights("*"), seed=0)))
        expected = model(x, task=IDS) if not isinstance(kind, Bernoulli) else model.eval()(x, task=IDS)
        last = copy.deepcopy(model)
        for parameter in last.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
                assert not parameter.is_contiguous()
        close(last(x.contiguous(memory_format=torch.channels_last), task=IDS), expected)
        last.seal(1)
        close(last.eval()(x, task=IDS), model.eval()(x, task=IDS))


def test_ties_are_broken_by_position_and_zeros_of_either_sign_are_equal() -> None:
    scores = torch.tensor([0.0, -0.0, 1.0, -1.0, -0.0, 0.0, 1.0])
    assert top_k(scores, 2).tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert top_k(scores, 5).tolist() == [1, 1, 1, 1, 0, 0, 1]
    assert top_k(torch.zeros(2, 3), 4).tolist() == [[1, 1, 1], [1, 0, 0]]


def test_weights_and_scores_of_one_seed_are_not_related() -> None:
    net = nn.Sequential(nn.Linear(50, 40, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.rand(40, 50, generator=torch.Generator().manual_seed(0)) - 0.5)
    target = Target(net, torch.randn(2, 50, generator=torch.Generator().manual_seed(1)))
    drawn = [next(model.parameters()) for model in (masks(target, 0), masks(target, 1))]
    drawn += [p for k, p in masks(target, 0, tasks=2).named_parameters() if ".rows.1." in k]
    flat = torch.stack([net[0].weight.detach().flatten(), *(p.detach().flatten() for p in drawn)])
    related = torch.corrcoef(flat) - torch.eye(len(flat))
    assert float(related.abs().max()) < 0.1  # 4.5 standard deviations of 2,000 pairs
    assert torch.equal(drawn[0], next(masks(target, 0).parameters()))


def masks(target: Target, seed: int, tasks: int = 1) -> Modulated:
    return Modulated(target, Modulator(Threshold(), Table(tasks), target.weights("*"), seed=seed))


# ---- noise -------------------------------------------------------------------------------------------------------------


def noisy() -> tuple[Modulated, Tensor]:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (8,), bias=True)), x)
    return Modulated(target, Modulator(Bernoulli(), Table(3), target.weights("*"), seed=0)), x


def test_noise_is_keyed_by_the_draw() -> None:
    model, x = noisy()
    for mode in (True, False):
        model.train(mode)
        same = [model(x, task=IDS, draw=4) for _ in range(2)]
        assert torch.equal(*same)
        assert not torch.equal(same[0], model(x, task=IDS, draw=5))
        state = torch.get_rng_state()
        model(x, task=IDS, draw=6)
        assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(model(x, task=0), model(x, task=0))  # evaluation draws nothing
    close(model(x, task=IDS, draw=4), torch.cat([model(x[i : i + 1], task=t, draw=4) for i, t in enumerate(IDS)]))


def test_the_counter_of_draws_is_part_of_the_state() -> None:
    model, x = noisy()
    model.train()
    first = [model(x, task=0) for _ in range(2)]
    assert not torch.equal(*first)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    third = model(x, task=0)
    assert not torch.equal(third, first[1])
    twin, _ = noisy()
    twin = Modulated(model.target, Modulator(Bernoulli(), Table(3), model.target.weights("*"), seed=0)).train()
    twin.load_state_dict(state)
    assert torch.equal(twin(x, task=0), third)
    assert torch.equal(model(x, task=0, draw=0), first[0])
    model.eval()(x, task=0)
    assert int(model.draws) == 3


# ---- running -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Threshold(), LowRankDelta(), Affine()])
def test_vmap_equals_splitting(kind: Kind) -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5, 4), norm="layer", bias=True)), x)
    sites = target.norms() if isinstance(kind, Affine) else target.weights("*")
    models = [
        moved(Modulated(target, Modulator(kind, Table(3), sites, seed=0), vmap=vmap)).train() for vmap in (False, True)
    ]
    outputs = [model(x, task=IDS) for model in models]
    close(outputs[1], outputs[0])
    gradients = [
        torch.autograd.grad((o * draw(6, 3, seed=4)).sum(), list(m.parameters()))
        for o, m in zip(outputs, models, strict=True)
    ]
    for a, b in zip(*gradients, strict=True):
        close(b, a)
    close(models[1](x, task=2), models[0](x, task=2))


def test_vmap_with_a_row_for_each_input() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), bias=True)), x)
    models = [
        moved(
            Modulated(
                target, Modulator(LowRankDelta(), Hypernet("input", hidden=4), target.weights("*"), seed=0), vmap=v
            )
        )
        for v in (False, True)
    ]
    close(models[1](x), models[0](x))
    assert float((models[0](x) - target(x)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_model_runs_where_gradients_are_off(off: Callable[[], torch.no_grad]) -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), norm="layer", bias=True)), x)
    parts = [
        Modulator(TopK(), Table(3), target.weights("*"), seed=0),
        Modulator(Gate(), Hypernet("input", hidden=2), target.norms(), seed=1),
    ]
    model = Modulated(target, *parts).train()
    expected = model(x, task=IDS)
    with off():
        assert torch.equal(model(x, task=IDS), expected)
        assert torch.equal(model.eval()(x, task=IDS), expected)
    model(x, task=IDS).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_cached_weights_are_the_same_weights() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), norm="layer", bias=True)), x)
    parts = [
        Modulator(Threshold(), Table(3), target.weights("*"), seed=0),
        Modulator(Affine(), Table(3), target.norms(), seed=1),
    ]
    model = moved(Modulated(target, *parts)).eval()
    expected = model(x, task=IDS)
    weights = sum(v.numel() for k, v in target.tensors().items() if k not in ("1.bias", "4.bias"))
    assert model.cache(0, 1, 2) == 3 * 8 * weights
    close(model(x, task=IDS), expected, 1e-14)
    assert not model(x, task=1).requires_grad
    with torch.no_grad():
        next(p for k, p in model.named_parameters() if ".rows.1." in k).neg_()
    assert torch.equal(model(x, task=IDS), model(x, task=IDS))
    close(model(x, task=IDS), expected, 1e-14)  # kept as they were
    stale = model(x, task=1)
    assert not torch.equal(model.train()(x, task=1), stale)
    assert not torch.equal(model.eval()(x, task=1), stale)
    model.cache(1)
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
    assert model(x, task=1).requires_grad


def test_a_cache_serves_evaluation_without_noise_alone() -> None:
    model, x = noisy()
    moved(model).eval()
    sampled, plain = model(x, task=0, draw=3), model(x, task=0)
    assert not torch.equal(sampled, plain)
    model.cache(0)
    close(model(x, task=0), plain, 1e-14)
    assert torch.equal(model(x, task=0, draw=3), sampled)
    model.train().cache(0)
    assert model(x, task=0).requires_grad
    quiet = masks(model.target, 0)
    quiet.eval().cache(0)
    with pytest.raises(RefusedError, match="draw="):
        quiet(x, task=0, draw=3)


def test_a_graph_of_sealed_tasks_is_exported_with_the_task_as_an_input() -> None:
    x = draw(6, 6)
    target = Target(filled(mlp((6,), 3, (5,), bias=True)), x)
    model = moved(Modulated(target, Modulator(Threshold(), Table(3), target.weights("*"), seed=0))).eval()
    expected = [model(x, task=t) for t in range(3)]
    for task in range(3):
        model.seal(task)
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"inputs": ({0: batch},), "task": {}}
    with torch.no_grad():
        program = torch.export.export(model, (x,), {"task": torch.tensor(1)}, dynamic_shapes=shapes)
    for task in range(3):
        close(program.module()(x, task=torch.tensor(task)), expected[task])
        close(program.module()(x[:4], task=torch.tensor(task)), expected[task][:4])


# ---- heads -------------------------------------------------------------------------------------------------------------


def heads(target: Target) -> Modulated:
    model = Modulated(target, Modulator(Head(), Table(2), target.head(), seed=0)).eval()
    model.modulators["head"].add(2, width=2)
    return model


def test_heads_of_different_widths() -> None:
    x = draw(6, 6)
    net = filled(mlp((6,), 4, (5,), bias=True))
    target = Target(net, x)
    model = moved(heads(target))
    mixed = model(x, task=IDS)
    assert mixed.shape == (6, 4)
    for i, task in enumerate(IDS):
        alone = model(x[i : i + 1], task=task)
        assert alone.shape == (1, 2 if task == 2 else 4)
        close(mixed[i : i + 1, : alone.shape[1]], alone)
        assert bool((mixed[i, alone.shape[1] :] == -torch.inf).all())
    labels = torch.tensor([3, 0, 1, 1, 2, 0])
    F.cross_entropy(mixed, labels).backward()
    assert all(bool(torch.isfinite(p.grad).all()) and float(p.grad.abs().max()) > 0 for p in model.parameters())  # type: ignore[union-attr]

    assert (model.bytes_per_task(0), model.bytes_per_task(2)) == (8 * (4 * 5 + 4), 8 * (2 * 5 + 2))
    twin = Modulated(target, Modulator(Head(), Table(1), target.head(), seed=1)).eval()
    twin.load_state_dict(model.state_dict())  # grows to the tasks and widths that were saved
    assert torch.equal(twin(x, task=IDS), mixed)
    baked = bake(model, task=2)
    close(baked(x), model(x, task=2))
    assert baked[-1].out_features == 2
    for task in (2, 0):
        model.seal(task)
        assert torch.equal(model(x, task=IDS), mixed)
    close(bake(model, task=2)(x), baked(x))
    again = heads(target)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x, task=IDS), mixed)
