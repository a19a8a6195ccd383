"""The protocol of recall: whole test sets, settings by name, a state kept by its entropy."""

from pathlib import Path

import pytest
import torch

from neuromod.inference import Hopfield, entropy, gated_logits, pattern, recall
from tasks.config.load import load
from tasks.continual.learners import Modulated
from tasks.continual.measures.inference import QueryPlan, task_inference
from tasks.continual.measures.recall import BATCH, SETTINGS, Settings, _recall
from tasks.continual.measures.rules import check_method
from tasks.continual.streams import Stream
from tasks.errors import UserError
from tasks.runs.seeds import generator
from tests.images import write
from tests.tasks.setup import SMALL, learner_of, stream_of


def learner_and_stream(root: Path) -> tuple[Modulated, Stream]:
    data = write(root / "data", "mnist")
    config = load(["experiment=supsup/hopfield_split_mnist", *SMALL, f"data.root='{data}'", "run=sequence"])
    stream = stream_of(config)
    learner = learner_of(config)
    assert isinstance(learner, Modulated)
    return learner, stream


def test_what_is_reported_is_the_state_recalled_from_the_whole_test_set(tmp_path: Path) -> None:
    learner, stream = learner_and_stream(tmp_path)
    model = learner.model.eval()
    found = task_inference(model, stream, QueryPlan(4, (2,)), ["hopfield"], {}, 3)["hopfield"]
    memory, right, near = Hopfield.of(model), [], []
    for number, task in enumerate(stream):
        order = torch.randperm(len(task.test), generator=generator("recall", 3, number))
        x, y = task.view(task.test.images[order]), task.test.labels[order]
        z = recall(model, x.split(BATCH), memory, rate=500.0, gamma=1.5e-3)
        right.append(float((gated_logits(model, z, x).argmax(1) == y).double().mean()))
        near.append(max(range(2), key=lambda t: float((torch.sign(pattern(model, t)) * z.sign()).sum())))
    assert found["class"] == pytest.approx(sum(right) / 2)
    assert found["lowest"] == pytest.approx(min(right))
    assert found["recalled"] == near
    assert found["failed"] == sum(guess != number for number, guess in enumerate(near))
    assert found["image"] == pytest.approx(1 - found["failed"] / 2)
    assert 0.5 < found["agreement"] <= 1


def test_of_several_starts_the_surest_is_kept(tmp_path: Path) -> None:
    learner, stream = learner_and_stream(tmp_path)
    model, x = learner.model.eval(), stream[0].view(stream[0].train.images.repeat(9, 1, 1, 1))
    memory = Hopfield.of(model)
    doubts = []
    for starts in (1, 4):
        z = _recall(model, x, memory, Settings(starts=starts), generator("a test", 0))
        doubts.append(float(entropy(gated_logits(model, z, x)).mean()))
    assert len(x) > BATCH
    assert doubts[1] <= doubts[0]


def test_names_are_known_or_answered_with_the_nearest() -> None:
    for name in SETTINGS:
        check_method(name)
    with pytest.raises(UserError, match=r"'hopfeld'.*'hopfield'"):
        check_method("hopfeld")
