"""Task inference against loops over tasks, samples and weights, with gradients over the mixture itself."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Head, Hypernet, Modulated, Modulator, RefusedError, Statistics, Table, Target, Threshold
from neuromod import calibrate as measure
from neuromod.inference import brute_force, entropy, one_shot
from tasks.networks import mlp

TASKS = [0, 1, 2, 3]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = draw(7, 6)


def network() -> nn.Module:
    net = mlp((6,), 5, (8, 4), norm="none", bias=True).double()
    with torch.no_grad():
        for seed, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed))
    return net


def masked(tasks: int = 4) -> Modulated:
    target = Target(network(), X)
    return Modulated(target, Modulator(Threshold(), Table(tasks), target.weights("*"), seed=3)).eval()


def masks(model: Modulated, task: int) -> dict[str, Tensor]:
    """M = 1[s >= 0], read off the scores."""
    found = {}
    for name, score in model.named_parameters():
        if f".rows.{task}." in name:
            found[name.rpartition("rows.")[2].partition(".")[2].removesuffix("/score").replace("/", ".")] = score
    return {name: (score.detach() >= 0).double() for name, score in found.items()}


def slow_entropy(logits: Tensor) -> Tensor:
    p = torch.exp(logits) / torch.exp(logits).sum()
    return -sum(p[c] * torch.log(p[c]) for c in range(len(p)))


def margin(logits: Tensor) -> Tensor:
    """Another objective: minus the log-sum-exp of the logits (-G-like, any differentiable function will do)."""
    return -torch.logsumexp(logits, -1)


def slow(
    model: Modulated,
    x: Tensor,
    tasks: Sequence[int],
    objective: Callable[[Tensor], Tensor],
    sites: Sequence[str] | None = None,
) -> Tensor:
    """score_i = -dH/da_i at a = 1/k of p(a) = f(x ; sum_i a_i W * M_i), by autograd over a, sample by sample."""
    W = {name: value.detach() for name, value in model.target.tensors().items()}
    chosen = {task: masks(model, task) for task in tasks}
    names = list(chosen[tasks[0]])
    scores = torch.zeros(len(x), len(tasks), dtype=torch.float64)
    for b in range(len(x)):
        alphas = torch.full((len(tasks),), 1 / len(tasks), dtype=torch.float64, requires_grad=True)
        mixed = {}
        for name in names:
            felt = alphas if sites is None or name in sites else alphas.detach()
            mixed[name] = sum(felt[i] * W[name] * chosen[task][name] for i, task in enumerate(tasks))
        h = x[b]
        for layer in ("1", "3", "5"):
            h = mixed[f"{layer}.weight"] @ h + W[f"{layer}.bias"]
            h = h if layer == "5" else torch.clamp(h, min=0)
        (gradient,) = torch.autograd.grad(objective(h), alphas)
        scores[b] = -gradient
    return scores


def close(a: Tensor, b: Tensor) -> None:
    a, b = a.detach(), b.detach()
    assert a.shape == b.shape
    assert float(b.abs().max()) > 1e-3
    assert float((a - b).abs().max()) <= 1e-9 * float(b.abs().max())


# ---- one shot ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [TASKS, [2, 0], [3]])
def test_one_shot_is_the_gradient_over_the_mixture(tasks: list[int]) -> None:
    model = masked()
    close(one_shot(model, X, tasks=tasks), slow(model, X, tasks, slow_entropy))
    assert one_shot(model, X, tasks=tasks).requires_grad is False


def test_one_shot_with_another_objective() -> None:
    model = masked()
    scores = one_shot(model, X, tasks=TASKS, objective=margin)
    close(scores, slow(model, X, TASKS, margin))
    assert not torch.allclose(scores, one_shot(model, X, tasks=TASKS))


def test_some_sites_are_a_part_of_the_sum() -> None:
    model = masked()
    parts = [["1.weight"], ["3.weight", "5.weight"]]
    for sites in parts:
        close(one_shot(model, X, tasks=TASKS, sites=sites), slow(model, X, TASKS, slow_entropy, sites))
    whole = sum(one_shot(model, X, tasks=TASKS, sites=sites) for sites in parts)
    close(whole, one_shot(model, X, tasks=TASKS))  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_chunks_change_nothing(chunk: int) -> None:
    model = masked()
    close(one_shot(model, X, tasks=TASKS, chunk=chunk), one_shot(model, X, tasks=TASKS, chunk=2))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("sites", [None, ["1.weight"]])
def test_one_shot_switches_gradients_on_for_itself(
    off: Callable[[], AbstractContextManager[None]], sites: list[str] | None
) -> None:
    model = masked()
    expected = one_shot(model, X, tasks=TASKS, sites=sites)
    with off():
        close(one_shot(model, X.clone(), tasks=TASKS, sites=sites), expected)
        assert not torch.is_grad_enabled()
    assert all(p.grad is None for p in model.parameters())


def test_sealed_tasks_and_live_ones_score_alike() -> None:
    model = masked()
    expected = one_shot(model, X, tasks=TASKS)
    model.seal(1)
    model.seal(3)
    close(one_shot(model, X, tasks=TASKS), expected)


def test_taps_and_measured_statistics_are_superposed_too() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)).double()
    with torch.no_grad():
        for seed, parameter in enumerate((net[0].weight, net[0].bias, net[3].weight, net[3].bias)):
            parameter.copy_(draw(*parameter.shape, seed=seed))
    target = Target(net, X, norm="batch")
    affine = Modulator(Affine(init="uniform"), Table(3), target.norms(), seed=0)
    model = Modulated(target, affine, Modulator(Statistics(), Table(3), target.statistics(), seed=0))
    for task in range(3):
        measure(model, task, draw(20, 6, seed=task) + task)
    model.eval()
    gains, biases, means, variances = (
        torch.stack(
            [next(v for k, v in model.state_dict().items() if f"rows.{t}." in k and part in k) for t in range(3)]
        )
        for part in ("1/gain", "1/bias", "running_mean", "running_var")
    )
    alphas = torch.full((3,), 1 / 3, dtype=torch.float64, requires_grad=True)
    for modulated in (nullcontext, torch.inference_mode):
        with modulated():
            scores = one_shot(model, X.clone(), tasks=range(3))
        for b, x in enumerate(X):
            h = net[0].weight @ x + net[0].bias
            h = (h - means.mean(0)) / torch.sqrt(variances.mean(0) + net[1].eps)
            h = torch.relu((alphas @ gains) * h + alphas @ biases)
            (gradient,) = torch.autograd.grad(slow_entropy(net[3].weight.detach() @ h + net[3].bias.detach()), alphas)
            close(scores[b], -gradient)


def test_inputs_that_are_integers() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.embedding, self.out = nn.Embedding(9, 6), nn.Linear(6, 4)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.out(torch.tanh(self.embedding(tokens)).mean(1))

    tokens = torch.randint(0, 9, (5, 3), generator=torch.Generator().manual_seed(0))
    target = Target(Words().double(), tokens)
    model = Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0)).eval()
    scores = one_shot(model, tokens, tasks=[0, 1])
    assert scores.dtype == torch.float64
    with torch.no_grad():
        edits = [model.edits(task=t) for t in (0, 1)]
    mean = {n: ((edits[0][n] + edits[1][n]) / 2).detach().requires_grad_() for n in edits[0]}
    for b in range(5):
        loss = slow_entropy(model.skeleton(mean, (tokens[b : b + 1],))[0])
        gradients = torch.autograd.grad(loss, list(mean.values()))
        found = [-sum(float((g * e[n]).sum()) for n, g in zip(mean, gradients, strict=True)) for e in edits]
        close(scores[b], torch.tensor(found, dtype=torch.float64))


def test_the_batch_may_be_on_another_axis() -> None:
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.Linear(6, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.rnn(x)).mean(0))

    x = draw(4, 4, 6, seed=5)
    net = TimeFirst().double()
    first = Target(net, x, batch_axis=1)
    model = Modulated(first, Modulator(Threshold(), Table(2), first.weights("*"), seed=0)).eval()
    scores = one_shot(model, x, tasks=[0, 1])
    singles = [one_shot(model, x[:, b : b + 1], tasks=[0, 1]) for b in range(4)]
    close(scores, torch.cat(singles))


# ---- every task in turn ------------------------------------------------------------------------------------------------


def test_brute_force_is_a_loop() -> None:
    model = masked()
    for objective, truth in ((entropy, slow_entropy), (margin, margin)):
        expected = torch.stack(
            [torch.stack([-truth(model(X, task=task)[b]).detach() for task in (2, 0, 3)]) for b in range(len(X))]
        )
        close(brute_force(model, X, tasks=[2, 0, 3], objective=objective), expected)
    with torch.inference_mode():
        assert brute_force(model, X, tasks=[1]).shape == (7, 1)


def test_brute_force_serves_heads_of_different_widths() -> None:
    target = Target(network(), X)
    heads = Modulator(Head(), Table(2), target.head(), seed=0)
    model = Modulated(target, heads).eval()
    heads.add(2, width=3)
    scores = brute_force(model, X, tasks=[0, 1, 2])
    assert bool(torch.isfinite(scores).all())
    with pytest.raises(RefusedError, match=r"same shapes; task 2 differs; use brute_force"):
        one_shot(model, X, tasks=[0, 1, 2])
    close(one_shot(model, X, tasks=[0, 1]), -one_shot(model, X, tasks=[0, 1], objective=lambda z: -entropy(z)))


@pytest.mark.parametrize("infer", [one_shot, brute_force])
def test_what_cannot_be_inferred(infer: Callable[..., Tensor]) -> None:
    model = masked()
    with pytest.raises(RefusedError, match=r"needs learned tasks; got none; pass tasks=model.tasks\(\)"):
        infer(model, X, tasks=[])
    with pytest.raises(RefusedError, match=r"got task 9; known are \[0, 1, 2, 3\]"):
        infer(model, X, tasks=[0, 9])


def test_unknown_sites_and_other_sources() -> None:
    with pytest.raises(RefusedError, match=r"'7.weight' is not; it edits \['1.weight'"):
        one_shot(masked(), X, tasks=TASKS, sites=["1.weight", "7.weight"])
    target = Target(network(), X)
    mask = Modulator(Threshold(), Table(2), target.weights("1.weight"), seed=0)
    gate = Modulator(Affine(), Hypernet("input", hidden=2), target.outputs("3"), seed=0)
    with pytest.raises(RefusedError, match="edits are those of one row"):
        one_shot(Modulated(target, mask, gate), X, tasks=[0, 1])


# ---- the objective -----------------------------------------------------------------------------------------------------


def test_entropy_and_absent_classes() -> None:
    logits = draw(4, 5)
    close(entropy(logits), torch.stack([slow_entropy(row) for row in logits]))
    padded = nn.functional.pad(logits, (0, 2), value=-torch.inf).requires_grad_()
    close(entropy(padded), entropy(logits))
    (gradient,) = torch.autograd.grad(entropy(padded).sum(), padded)
    assert bool(torch.isfinite(gradient).all())
    assert torch.equal(gradient[:, 5:], torch.zeros(4, 2, dtype=torch.float64))
    assert entropy(torch.zeros(3, 8)).tolist() == pytest.approx([torch.log(torch.tensor(8.0)).item()] * 3)
    certain = torch.tensor([0.0, -torch.inf, -torch.inf])
    assert float(entropy(certain)) == 0.0
