"""What is compiled equals what is eager, and tasks share one graph."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tests.contract.cells import CONFIGS, EVEN, PAIRS, cell
from tests.contract.laws import close, gradients, loss_of, ready

# Dynamo itself looks at .grad of a graph's non-leaf inputs, and warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")

MLP = [config for config, network in PAIRS if network == "mlp"]
SEALABLE = [
    c
    for c in MLP
    if all(
        p["source"]["_target_"] == "neuromod.Table" or p["source"].get("reads", "task") == "task"
        for p in CONFIGS[c].values()
    )
]
TAPPED = [c for c in MLP if all("norms" in p["sites"] for p in CONFIGS[c].values())]


@pytest.fixture(autouse=True)
def _fresh_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("config", MLP)
def test_compiled_rows_equal_eager_in_training(config: str) -> None:
    made = cell(CONFIGS[config], "mlp")
    eager, compiled = made.model().train(), made.model().train()
    counter = CompileCounterWithBackend("aot_eager")
    compiled.compile(backend=counter, fullgraph=True)
    for ids in (0, 1, EVEN):
        a, b = made.call(eager, ids), made.call(compiled, ids)
        close(b, a, 1e-12)
        ours, theirs = gradients(compiled, loss_of(b)), gradients(eager, loss_of(a))
        for name, gradient in theirs.items():
            close(ours[name], gradient, 1e-9)
        if ids == 0:
            first = counter.frame_count
        elif ids == 1:
            assert counter.frame_count == first  # a second task causes no recompilation


@pytest.mark.parametrize("config", SEALABLE)
def test_one_graph_serves_all_sealed_tasks(config: str) -> None:
    made = cell(CONFIGS[config], "mlp")
    model = ready(made, made.model()).eval()
    expected = [made.call(model, task).detach() for task in range(4)]
    for task in range(4):
        model.seal(task)
    _same_graph(made, model, [(torch.tensor(task), expected[task]) for task in range(4)])


@pytest.mark.parametrize("config", TAPPED)
def test_one_graph_serves_a_mixed_batch_of_taps(config: str) -> None:
    made = cell(CONFIGS[config], "mlp")
    model = made.model().eval()
    batches = [EVEN, EVEN[::-1], [2] * 16]
    expected = [made.call(model, ids).detach() for ids in batches]
    _same_graph(made, model, [(torch.tensor(ids), e) for ids, e in zip(batches, expected, strict=True)])


def _same_graph(made: Any, model: Any, cases: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    reads = model.reads
    with torch.no_grad():
        for ids, expected in cases:
            keywords = ({"task": ids} if "task" in reads else {}) | (
                {"condition": made.condition} if "condition" in reads else {}
            )
            close(compiled(made.x, **keywords), expected, 1e-12)
    assert counter.frame_count == 1


@pytest.mark.check
@pytest.mark.parametrize("config", ["threshold_table", "topk_table"])
def test_inductor_equals_eager(config: str) -> None:
    made = cell(CONFIGS[config], "mlp").astype(torch.float32)
    eager, compiled = made.model().train(), made.model().train()
    compiled.compile(fullgraph=True)
    a, b = made.call(eager, EVEN), made.call(compiled, EVEN)
    close(b, a, 1e-5)
    ours, theirs = gradients(compiled, loss_of(b)), gradients(eager, loss_of(a))
    for name, gradient in theirs.items():
        close(ours[name], gradient, 1e-4)
