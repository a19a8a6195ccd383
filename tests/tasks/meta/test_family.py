"""Meta-learning experiments: every arm and its outer step, episodes and waves, and resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tasks.commands.draws import draws
from tasks.config.load import experiments, load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.meta import arms
from tasks.meta.networks import ANML
from tasks.meta.pools import Pool
from tasks.meta.protocol import Protocol
from tasks.meta.sampling import trajectory
from tasks.report import write as write_report
from tasks.runs.files import read_json
from tests.images import draw_pool
from tests.meta import slow

WAVES = ["meta/waves_cavia", "meta/waves_maml"]
FEW = ["meta/fewshot_maml", "meta/fewshot_cavia", "meta/fewshot_film", "meta/fewshot_off"]
ARMS = [name for name in experiments() if name.startswith("meta/") and name not in (*WAVES, *FEW)]
SMALL = ["steps=2", "log_every=1", "save_every=1", "device=cpu", "validation=2", "net.width=3", "net.gate_width=2"]
SMALL += ["test.lengths=[2,3]", "test.shots=3", "test.orders=2", "test.rates.sgd=[0.001,0.01,0.1]"]
STEPS = ["arm.steps=3", "arm.remember=4"]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.filterwarnings("ignore:the best rate")
def test_every_arm_takes_steps_and_is_tested(arm: str, omniglot: Path, tmp_path: Path) -> None:
    given = [f"experiment={arm}", f"data.root='{omniglot}'", "data.name=omniglot", *SMALL]
    given += [] if arm == "meta/random" else STEPS
    folder = execute(load(given), root=tmp_path / "runs", command=["train"], results=tmp_path)
    result = read_json(folder / "result.json")
    found = result["measures"]["streaming"]
    assert found["lengths"] == [2, 3]
    for name in {"sgd", "iid", "ridge", "means", "slda"} | set(load(given)["run"]["test"]["rates"]):
        assert len(found[name]["test_mean"]) == 2
        assert all(0 <= value <= 1 for value in found[name]["test_mean"])
    assert result["value"] == found["sgd"]["test_mean"][-1]
    assert found["divided"]  # both parts of the tiny set have the same classes
    page = write_report([folder], tmp_path / "report.html", "one arm", [], draws())
    assert "What is known after so many classes" in page.read_text()
    steps = 0 if arm == "meta/random" else 2
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == steps


@pytest.mark.parametrize("experiment", WAVES)
def test_waves_are_learned_from_a_few_points(experiment: str, tmp_path: Path) -> None:
    given = [f"experiment={experiment}", "steps=60", "test.tasks=50", "rate=0.01", "device=cpu"]
    folder = execute(load(given), root=tmp_path, command=["train"], results=tmp_path)
    result = read_json(folder / "result.json")
    start = read_json(
        execute(load([*given, "steps=1"]), root=tmp_path, command=["train"], results=tmp_path) / "result.json"
    )
    assert (result["metric"], result["better"]) == ("mse", "lower")
    assert result["value"] < 0.9 * start["value"]
    found = result["measures"]["sinusoids"]
    assert 0 < found["standard_error"] < result["value"]
    assert found["explained"] > start["measures"]["sinusoids"]["explained"]
    page = write_report([folder], tmp_path / "report.html", "waves")
    assert "mse" in page.read_text()


@pytest.mark.parametrize("experiment", FEW)
@pytest.mark.parametrize("pretrain", [0, 2])
def test_episodes_are_learned(experiment: str, pretrain: int, omniglot: Path, tmp_path: Path) -> None:
    given = [f"experiment={experiment}", f"data.root='{omniglot}'", "steps=2", "log_every=1", "device=cpu"]
    given += ["validation=2", "ways=3", "shots=2", "queries=3", "tasks=2", "width=4", "test.tasks=3"]
    trained = [f"adapt.pretrain={pretrain}"]
    if experiment in FEW[:2]:
        with pytest.raises(UserError, match=r"an option must exist; got 'adapt\.pretrain'"):
            load([*given, *trained])
        trained = []
    folder = execute(load([*given, *trained]), root=tmp_path, command=["train"], results=tmp_path)
    result = read_json(folder / "result.json")
    assert 0 <= result["value"] <= 1
    assert result["measures"]["few_shot"]["interval"] >= 0
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == (0 if experiment.endswith("off") else 2)


def meta(**options: Any) -> arms.Meta:
    return arms.Meta(**{"rate": 0.1, "steps": 3, "remember": 4, **options})


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
    net, some, asked = network(gate), draw_pool(), meta(fast=fast, order=order, reset=reset)
    monkeypatch.setattr(Pool, "seen", lambda self, index: self.images[index].double() / 255)
    loss = asked.step(net, some, seed=5, number=2)
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
def test_the_alternating_arm_moves_the_network_as_plain_steps_do(reset: bool) -> None:
    net, some = network("none").float(), draw_pool()
    twin = network("none").float()
    arms.Alternating(rate=0.1, steps=3, remember=4, reset=reset).step(net, some, seed=5, number=2)
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


@pytest.mark.filterwarnings("ignore:the best rate")
def test_a_killed_run_goes_on_bit_for_bit(omniglot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["experiment=meta/anml", f"data.root='{omniglot}'", *SMALL, *STEPS, "steps=5", "save_every=2"]
    whole = execute(load(given), root=tmp_path / "whole", command=["train"], results=tmp_path)
    real, calls = arms.Meta.step, [0]

    def dying(*arguments: Any) -> Tensor:
        calls[0] += 1
        if calls[0] in (2, 4, 8):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(arms.Meta, "step", dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            execute(load(given), root=tmp_path / "killed", command=["train"], results=tmp_path)
    again = execute(load(given), root=tmp_path / "killed", command=["train"], results=tmp_path)
    one, other = (read_json(folder / "result.json") for folder in (whole, again))
    assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert (whole / "checkpoint.safetensors").read_bytes() == (again / "checkpoint.safetensors").read_bytes()


def test_mistakes_are_told(omniglot: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be one of all, head; got 'heed'; nearest: 'head'"):
        meta(fast="heed")
    with pytest.raises(UserError, match=r"arm\.order must be one of 1, 2; got 3"):
        meta(order=3)
    with pytest.raises(UserError, match=r"arm\.steps must be an integer of 0 or more; got -1"):
        meta(steps=-1)
    for lengths, rates, words in (
        ([3, 2], {"sgd": [0.1]}, r"ascending order; got \[3, 2\]"),
        ([2], {"adam": [0.1]}, "got 'sgd'"),
        ([2], {"sgd": [0.1], "adan": [0.1]}, "got 'adan'; nearest: 'adam'"),
    ):
        with pytest.raises(UserError, match=words):
            Protocol(lengths, 3, 2, rates)
    given = ["experiment=meta/anml", "net.frozen=true", f"data.root='{omniglot}'", *SMALL]
    with pytest.raises(UserError, match=r"arm\.fast=all; pass arm\.fast=head"):
        execute(load(given), root=tmp_path, command=[], results=tmp_path)
    with pytest.raises(UserError, match="validation classes in the run itself"):
        execute(load(["experiment=meta/oml", f"data.root='{omniglot}'"]), root=tmp_path, command=[], held=5)
    with pytest.raises(UserError, match="'Metta'; nearest: 'Meta'"):
        load(["experiment=meta/oml", "arm._target_=tasks.meta.arms.Metta"])
