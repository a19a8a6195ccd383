"""Meta-learning experiments: pools, what a step sees, every arm, the sequential test against plain loops, and resuming."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tasks.config import experiments, load
from tasks.data import load as load_images
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.files import read_json
from tasks.meta.arms import Plan, outer_step
from tasks.meta.pools import Pool, pools
from tasks.meta.protocol import Encoded, Protocol, choose_rate, drawn_orders, fresh_head, meta_test, trajectories
from tasks.meta.sampling import episodes, sinusoids, trajectory
from tasks.networks import ANML
from tasks.report import write as write_report
from tests.images import write
from tests.meta import slow

WAVES = ["meta/waves_cavia", "meta/waves_maml"]
FEW = ["meta/fewshot_maml", "meta/fewshot_cavia", "meta/fewshot_film", "meta/fewshot_off"]
ARMS = [name for name in experiments() if name.startswith("meta/") and name not in (*WAVES, *FEW)]
SMALL = ["steps=2", "log_every=1", "save_every=1", "device=cpu", "meta.validation=2", "meta.net.width=3"]
SMALL += ["meta.net.gate_width=2", "meta.plan.steps=3", "meta.plan.remember=4", "meta.test.lengths=[2,3]"]
SMALL += ["meta.test.shots=3", "meta.test.orders=2", "meta.test.rates.sgd=[0.001,0.01,0.1]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "data", "omniglot", classes=10, side=28, train=80)


def pool(classes: int = 6, each: int = 5) -> Pool:
    images = torch.randint(0, 256, (classes, each, 1, 28, 28), generator=torch.Generator().manual_seed(3))
    return Pool(images.to(torch.uint8), tuple(f"class {c}" for c in range(classes)))


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.filterwarnings("ignore:the best rate")
def test_every_arm_takes_steps_and_is_tested(arm: str, root: Path, tmp_path: Path) -> None:
    given = [f"experiment={arm}", f"data.root='{root}'", "data.name=omniglot", *SMALL]
    folder = execute(load(given), root=tmp_path / "runs", command=["train"], results=tmp_path)
    result = read_json(folder / "result.json")
    found = result["meta"]
    assert found["lengths"] == [2, 3]
    for name in {"sgd", "iid", "ridge", "means", "slda"} | set(load(given)["meta"]["test"]["rates"]):
        assert len(found[name]["test_mean"]) == 2
        assert all(0 <= value <= 1 for value in found[name]["test_mean"])
    assert result["accuracy"] == found["sgd"]["test_mean"][-1]
    assert found["divided"]  # both parts of the tiny set have the same classes
    page = write_report([folder], tmp_path / "report.html", "one arm", [])
    assert "What is known after so many classes" in page.read_text()
    steps = 0 if arm == "meta/random" else 2
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == steps


def test_pools_have_no_class_in_common_and_stand_by_name(root: Path) -> None:
    found = pools(load_images("omniglot", root=root), 2)
    names = [*found.train.names, *found.validation.names, *found.test.names]
    assert len(names) == len(set(names)) == 10
    assert list(found.test.names) == sorted(found.test.names)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [4, 2, 4]
    with pytest.raises(UserError, match="got 6 of 6"):
        pools(load_images("omniglot", root=root), 6)


def test_a_trajectory_is_one_class_then_any(root: Path) -> None:
    some = pool()
    drawn = trajectory(some, 4, 10, seed=0, step=7)
    assert drawn.labels[:4].unique().tolist() == [drawn.row]
    assert len({tuple(image.flatten().tolist()) for image in drawn.images[:4]}) == 4
    for image, label in zip(drawn.images, drawn.labels, strict=True):
        assert any(torch.equal(image, other.float() / 255) for other in some.images[label])
    again = trajectory(some, 4, 10, seed=0, step=7)
    assert torch.equal(drawn.images, again.images)
    assert not torch.equal(drawn.images, trajectory(some, 4, 10, seed=0, step=8).images)
    with pytest.raises(UserError, match="got 6 of 5"):
        trajectory(some, 6, 1, seed=0, step=0)


def test_an_episode_holds_its_queries_apart() -> None:
    (x, y), (qx, qy) = episodes(pool(), ways=3, shots=2, queries=3, tasks=4, seed=0, step=0)
    assert x.shape == (4, 6, 1, 28, 28)
    assert y[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert qy[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for task in range(4):
        seen = {tuple(image.flatten().tolist()) for image in x[task]}
        assert not seen & {tuple(image.flatten().tolist()) for image in qx[task]}
        assert len(seen) == 6
    with pytest.raises(UserError, match=r"2 \+ 4 of 5 images"):
        episodes(pool(), ways=3, shots=2, queries=4, tasks=1, seed=0, step=0)


def test_waves_are_waves() -> None:
    (x, y), (qx, qy) = sinusoids(500, 10, 10, seed=0, step=0)
    both = torch.cat([x, qx], 1).squeeze(2), torch.cat([y, qy], 1).squeeze(2)
    # a sin(x - p) = u sin x + v cos x: two numbers explain twenty points.
    basis = torch.stack([both[0].sin(), both[0].cos()], 2).double()
    fitted = torch.linalg.lstsq(basis, both[1].double()[..., None]).solution.squeeze(2)
    assert torch.allclose((basis @ fitted[..., None]).squeeze(2), both[1].double(), atol=1e-5)
    amplitude = fitted.norm(dim=1)
    assert 0.1 <= float(amplitude.min()) < 0.3
    assert 4.8 < float(amplitude.max()) <= 5.001
    assert -5 <= float(both[0].min()) < -4.9


@pytest.mark.parametrize("experiment", WAVES)
def test_waves_are_learned_from_a_few_points(experiment: str, tmp_path: Path) -> None:
    given = [f"experiment={experiment}", "steps=60", "meta.test.tasks=50", "meta.rate=0.01", "device=cpu"]
    folder = execute(load(given), root=tmp_path, command=["train"], results=tmp_path)
    result = read_json(folder / "result.json")
    start = execute(load([*given, "steps=1"]), root=tmp_path, command=["train"], results=tmp_path)
    assert result["meta"]["mse"] < 0.9 * read_json(start / "result.json")["meta"]["mse"]
    assert 0 < result["meta"]["standard_error"] < result["meta"]["mse"]
    assert result["meta"]["order"] == 2
    write_report([folder], tmp_path / "report.html", "waves", [])


def test_turned_classes_are_the_same_images_turned_as_one() -> None:
    plain, turned = (
        episodes(pool(), ways=3, shots=2, queries=3, tasks=4, seed=0, step=0, turned=turned) for turned in (False, True)
    )
    seen = set()
    for task in range(4):
        for c in range(3):
            places = [part[1][task] == c for part in (plain.support, plain.query)]
            x, y = (torch.cat([e.support[0][task][places[0]], e.query[0][task][places[1]]]) for e in (plain, turned))
            (k,) = [k for k in range(4) if torch.equal(x.rot90(k, (-2, -1)), y)]
            seen.add(k)
    assert len(seen) > 1
    assert torch.equal(plain.query[1], turned.query[1])


@pytest.mark.parametrize("experiment", FEW)
@pytest.mark.parametrize("pretrain", [0, 2])
def test_episodes_are_learned(experiment: str, pretrain: int, root: Path, tmp_path: Path) -> None:
    given = [
        f"experiment={experiment}",
        f"data.root='{root}'",
        "steps=2",
        "log_every=1",
        "device=cpu",
        "meta.validation=2",
    ]
    given += ["meta.ways=3", "meta.shots=2", "meta.queries=3", "meta.tasks=2", "meta.width=4", "meta.test.tasks=3"]
    folder = execute(load([*given, f"meta.pretrain={pretrain}"]), root=tmp_path, command=["train"], results=tmp_path)
    result = read_json(folder / "result.json")
    assert 0 <= result["accuracy"] <= 1
    assert result["meta"]["interval"] >= 0
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == (0 if experiment.endswith("off") else 2)


def plan(**options: Any) -> Plan:
    return Plan(**{"learning": "meta", "fast": "all", "order": 2, "rate": 0.1, "steps": 3, "remember": 4, **options})


def network(gate: str = "learned") -> ANML:
    torch.manual_seed(0)
    return ANML((1, 28, 28), 6, 3, 2, gate).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("gate", ["learned", "binary", "none", "static"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("fast", ["all", "head"])
@pytest.mark.parametrize("reset", [True, False])
def test_a_meta_step_is_the_loop_written_down(
    reset: bool, fast: str, order: int, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, some, asked = network(gate), pool(), plan(fast=fast, order=order, reset=reset)
    monkeypatch.setattr(Pool, "seen", lambda self, index: self.images[index].double() / 255)
    loss = outer_step(asked, net, some, seed=5, step=2)
    drawn = trajectory(some, 3, 4, seed=5, step=2)
    tensors: dict[str, Tensor] = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}

    def forward(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(net, tensors, (x,))

    from tasks.meta.arms import _row

    replaced = dict(tensors)
    if reset:
        replaced["head.weight"] = slow.replace_row(tensors["head.weight"], drawn.row, _row(net, 5, 2))
    moves = {n: t for n, t in replaced.items() if n.startswith("head") or (fast == "all" and n.startswith("pn"))}
    still = {n: t for n, t in replaced.items() if n not in moves}
    batches = [(drawn.images[i : i + 1], drawn.labels[i : i + 1]) for i in range(3)]
    ends = slow.inner(forward, moves, still, batches, cross_entropy, 0.1, order)
    value = cross_entropy(forward({**still, **ends}, drawn.images), drawn.labels)
    assert float(loss) == pytest.approx(float(value.detach()), rel=1e-9)
    for name, expected in slow.gradient(value, tensors).items():
        got = dict(net.named_parameters())[name].grad
        got = torch.zeros_like(expected) if got is None else got
        assert float((got - expected).abs().max()) <= 1e-9 * max(float(expected.abs().max()), 1e-3), name


@pytest.mark.parametrize("reset", [True, False])
def test_the_sequential_arm_moves_the_network_as_plain_steps_do(reset: bool) -> None:
    net, some = network("none").float(), pool()
    twin = network("none").float()
    outer_step(plan(learning="sequential", reset=reset), net, some, seed=5, step=2)
    drawn = trajectory(some, 3, 4, seed=5, step=2)
    from tasks.meta.arms import _row

    if reset:
        with torch.no_grad():
            twin.head.weight[drawn.row] = _row(twin, 5, 2)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for i in range(3):
        optimizer.zero_grad()
        cross_entropy(twin(drawn.images[i : i + 1]), drawn.labels[i : i + 1]).backward()
        optimizer.step()
    optimizer.zero_grad()
    cross_entropy(twin(drawn.images), drawn.labels).backward()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert torch.allclose(a.grad, b.grad, atol=1e-6)  # type: ignore[arg-type]


def encoded(classes: int = 5, each: int = 4) -> Encoded:
    return Encoded(torch.randn(classes, each, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64), 3)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_trajectory_is_one_pass_class_after_class(optimiser: str) -> None:
    some, orders = encoded(), drawn_orders(5, 4, 2, seed=3)
    rates = [0.01, 0.1]
    found = trajectories(some, orders, [2, 4], optimiser, rates, seed=3)
    for i, order in enumerate(orders):
        head = fresh_head(4, some.features, 3, i)
        f = some.features[order, :3].reshape(-1, 6)
        y = torch.arange(4).repeat_interleave(3)
        for r, rate in enumerate(rates):
            run = slow.head_sgd if optimiser == "sgd" else slow.head_adam
            every = run(f, y, *head, float(torch.tensor(rate)), all_steps=True)
            for j, length in enumerate((2, 4)):
                w, b = every[3 * length - 1]
                asked = some.features[order[:length], 3:].reshape(-1, 6)
                answers = (asked @ w.T + b).argmax(1)
                assert found["test"][i, j, r] == (answers == torch.arange(length)).double().mean()


def test_a_shorter_test_is_the_start_of_a_longer_one() -> None:
    some, orders = encoded(), drawn_orders(5, 5, 1, seed=0)
    both = trajectories(some, orders, [2, 5], "sgd", [0.1], seed=0)
    alone = trajectories(some, orders, [5], "sgd", [0.1], seed=0)
    assert both["test"][0, 1, 0] == alone["test"][0, 0, 0]


def test_rates_are_chosen_on_validation_classes_and_an_edge_is_told() -> None:
    some = encoded()
    with pytest.warns(UserWarning, match=r"1e-06.*edge"):
        edge = choose_rate(some, 5, "sgd", [1e-6], 2, seed=0)
    assert edge["edge"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = choose_rate(some, 5, "sgd", [1e-6, 0.3, 1e6], 2, seed=0)
    best = max(found["sweep"], key=lambda pair: pair[1])
    assert found["rate"] == best[0]


@pytest.mark.filterwarnings("ignore:the best rate")
def test_heads_in_closed_form_stand_beside(root: Path) -> None:
    parts = pools(load_images("omniglot", root=root), 2)
    protocol = Protocol([2, 4], 3, 2, {"sgd": [0.01, 0.1]})
    found = meta_test(lambda x: x.flatten(1), parts, protocol, 0)
    # Noisy prototypes: the class means of pixels know nearly all of them.
    assert found["means"]["test_mean"][-1] > 0.9
    assert len(found["ridge"]["test"]) == 2
    assert len(found["slda"]["test"]) == 1
    with pytest.raises(UserError, match="got 9 of 8"):
        meta_test(lambda x: x.flatten(1), parts, Protocol([2], 9, 2, {"sgd": [0.1]}), 0)


@pytest.mark.filterwarnings("ignore:the best rate")
def test_a_killed_run_goes_on_bit_for_bit(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["experiment=meta/anml", f"data.root='{root}'", *SMALL, "steps=5", "save_every=2"]
    whole = execute(load(given), root=tmp_path / "whole", command=["train"], results=tmp_path)
    import tasks.meta.sequential as module

    real, calls = module.outer_step, [0]

    def dying(*arguments: Any) -> Tensor:
        calls[0] += 1
        if calls[0] in (2, 4, 8):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "outer_step", dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            execute(load(given), root=tmp_path / "killed", command=["train"], results=tmp_path)
    again = execute(load(given), root=tmp_path / "killed", command=["train"], results=tmp_path)
    one, other = (read_json(folder / "result.json") for folder in (whole, again))
    assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert (whole / "checkpoint.safetensors").read_bytes() == (again / "checkpoint.safetensors").read_bytes()


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="'metta'; nearest: 'meta'"):
        plan(learning="metta")
    with pytest.raises(UserError, match="validation classes in the run itself"):
        execute(load(["experiment=meta/oml"]), root=Path("x"), command=[], held=5)
    with pytest.raises(UserError, match="'sequentiall'; nearest: 'sequential'"):
        execute(load(["experiment=meta/oml", "meta.kind=sequentiall"]), root=Path("x"), command=[])
