"""The condition in the loop: given as a label, and what is measured under another task's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.commands.cli import main
from tasks.config.load import load
from tasks.continual.learners import Base, Modulated
from tasks.continual.measures import conditions as measured
from tasks.continual.streams import Stream, questions
from tasks.experiment import execute
from tasks.runs.files import read_json
from tests.tasks.setup import bench, learner_of, stream_of

ASKED = ["experiment=demo/base", "data=tiny", "stream=questions", "stream.halve=false", "device=cpu", "outputs=10"]
ASKED += ["modulator=film_labels", "target.kwargs.hidden=[16]", "run=joint", "batch=16", "steps=30"]
ASKED += ["stream.tasks=3", "optimizer.lr=0.05"]
OPTIONS: dict[str, Any] = {"batch": 7, "precision": "float32"}


def conditions(learner: Any, stream: Stream, seed: int) -> Any:
    place = bench(seed)
    place.config = {"run": {}}
    return measured.measure(learner, stream, place, **OPTIONS)


def key(x: Tensor) -> tuple[float, ...]:
    return tuple(x.flatten().tolist())


class Knowing(Modulated):
    """Answers every question rightly, and only the question that it is given."""

    def __init__(self, stream: Stream, reads: str = "condition") -> None:
        Base.__init__(self)
        self.__dict__["model"] = SimpleNamespace(reads=frozenset([reads]))
        self.classes = stream.classes
        self.conditions: list[int] = []
        images = stream[0].view(stream[0].test.images)
        self.answers = {key(x): [int(task.test.labels[i]) for task in stream] for i, x in enumerate(images)}

    def forward(self, x: Tensor, task: int, condition: Tensor) -> Tensor:  # type: ignore[override]
        self.conditions += condition.tolist()
        chosen = [self.answers[key(one)][c] for one, c in zip(x, condition.tolist(), strict=True)]
        return torch.eye(self.classes)[chosen]


def test_a_network_that_knows_all_answers_is_right_as_often_as_the_answers_agree(image_set: Any) -> None:
    stream = questions(image_set(test=120, classes=5), 4, 0)
    learner: Any = Knowing(stream)
    found = conditions(learner, stream, 5)
    labels = [task.test.labels.tolist() for task in stream]
    count = len(labels[0])
    for number in range(4):
        other = labels[(number + 1) % 4]
        agree = sum(a == b for a, b in zip(labels[number], other, strict=True))
        assert found["swapped"]["tasks"][number] == agree / count
    assert found["swapped"]["accuracy"] == pytest.approx(sum(found["swapped"]["tasks"]) / 4)
    assert found["swapped"]["chance"] == found["shuffled"]["chance"] == pytest.approx(1 / 5)
    assert learner.conditions[: 4 * count] != learner.conditions[4 * count :]
    drawn = [learner.conditions[(4 + number) * count : (5 + number) * count] for number in range(4)]
    for number, row in enumerate(drawn):
        assert set(row) == {0, 1, 2, 3}
        right = sum(labels[c][i] == labels[number][i] for i, c in enumerate(row))
        assert found["shuffled"]["tasks"][number] == right / count
    assert len({tuple(row) for row in drawn}) == 4


def test_the_drawn_conditions_follow_the_seed(tiny: Any) -> None:
    stream = questions(tiny, 3, 0)
    learners: list[Any] = [Knowing(stream) for _ in range(3)]
    for learner, seed in zip(learners, (5, 5, 6), strict=True):
        conditions(learner, stream, seed)
    assert learners[0].conditions == learners[1].conditions
    assert learners[0].conditions != learners[2].conditions


def test_without_a_condition_or_another_task_nothing_is_measured(tiny: Any) -> None:
    task_only: Any = Knowing(questions(tiny, 2, 0), "task")
    assert conditions(task_only, questions(tiny, 2, 0), 5) is None
    alone: Any = Knowing(questions(tiny, 1, 0))
    assert conditions(alone, questions(tiny, 1, 0), 5) is None


def test_the_condition_is_the_number_of_the_task(data: str) -> None:
    config = load([*ASKED, data])
    stream = stream_of(config)
    learner = learner_of(config).eval()
    (modulator,) = learner.model.named_modulators().values()
    with torch.no_grad():
        for parameter in modulator.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    x = stream[0].view(stream[0].test.images[:6])
    expected = torch.cat([learner.model(x[i : i + 1], condition=torch.tensor(i % 3)) for i in range(6)])
    torch.testing.assert_close(learner(x, torch.arange(6) % 3), expected)
    torch.testing.assert_close(learner(x, 2), learner.model(x, condition=torch.tensor([2] * 6)))
    torch.testing.assert_close(learner(x, 2, torch.tensor([0] * 6)), learner(x, 0))
    assert float((learner(x, 0) - learner(x, 1)).detach().abs().max()) > 1e-3


def test_a_run_says_what_became_of_it_under_other_conditions(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = read_json(execute(load([*ASKED, data]), root=tmp_path, command=[], results=tmp_path) / "result.json")
    assert (result["trained"], result["costs"]["parameters_per_task"]) == ("jointly", 0)
    result = result["measures"]["conditions"]
    assert {len(result[name]["tasks"]) for name in ("swapped", "shuffled")} == {3}
    assert result["swapped"]["chance"] == pytest.approx(0.1)
    plain = [*ASKED, data, "modulator=film_hypernet"]
    result = read_json(execute(load(plain), root=tmp_path, command=[], results=tmp_path) / "result.json")
    assert "conditions" not in result["measures"]
    assert main(["train", *ASKED, data, "--root", str(tmp_path)]) == 0
    assert "accuracy under swapped conditions: 0." in capsys.readouterr().out
