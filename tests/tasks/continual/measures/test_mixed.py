"""A mixed, unlabelled batch routed and classified in one call, against a loop over its images."""

from pathlib import Path

import pytest
import torch

from neuromod.inference import InferenceRule, infer, predict
from neuromod.inference.predictors import Signature, task_scores
from tasks.commands.draws import draws
from tasks.continual.measures.queries import lead
from tasks.report import write
from tasks.runs.files import read_json
from tests.inference.test_inference import X, masked
from tests.tasks.continual.runs import run_bank
from tests.tasks.report.pages import Page

RULES = [InferenceRule("one_shot"), InferenceRule("brute_force"), InferenceRule("verified", "margin", real=3, best=2)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.method)
def test_each_image_of_a_batch_gets_the_logits_of_the_task_that_it_gets_alone(rule: InferenceRule) -> None:
    model = masked()
    made = predict(model, X, rule)
    for i in range(len(X)):
        task = int(infer(model, X[i : i + 1], rule).task)
        assert made.task[i] == task
        torch.testing.assert_close(made.logits[i], model(X[i : i + 1], task=task)[0], rtol=1e-10, atol=1e-10)
    assert len(set(made.task.tolist())) > 1


def test_a_group_that_shares_a_task_is_routed_together() -> None:
    made = predict(masked(), X, InferenceRule("one_shot"), group=3)
    assert made.logits.shape == (6, 5)
    assert made.task.view(2, 3).unique(dim=1).shape == (2, 1)


def test_a_predictor_routes_by_the_ids_that_it_learned() -> None:
    model, router = masked(), Signature()
    for task, shift in ((3, 1.0), (1, -1.0)):
        router.learn(task, X + shift, torch.zeros(len(X), dtype=torch.int64))
    made = predict(model, X, router)
    expected = torch.tensor([3, 1])[task_scores(router, X).argmax(1)]
    assert torch.equal(made.task, expected)
    torch.testing.assert_close(made.logits, model(X, task=expected))
    with pytest.raises(TypeError, match="group"):
        predict(model, X, router, group=2)


def test_a_run_shows_its_mixed_batch(data: str, tmp_path: Path) -> None:
    folder = run_bank(
        tmp_path, data, "inference.methods=[brute_force,calibrated_brute_force_margin]", "inference.at=[]"
    )
    made = read_json(folder / "result.json")["measures"]["mixed"]
    assert len(made["task"]) == len(made["found"]) == 256
    assert len(set(made["task"])) == 5
    right = [
        a == b and c == d for a, b, c, d in zip(*(made[k] for k in ("task", "found", "label", "answer")), strict=True)
    ]
    assert made["right"] == pytest.approx(sum(right) / 256)
    page = Page(write([folder], tmp_path / "r.html", "mixed", [], draws()).read_text(encoding="utf-8"))
    (first,) = {w for w in page.words if w.startswith(f"{made['task'][0] + 1} \u2192 {made['found'][0] + 1}:")} or {
        None
    }
    assert first is not None
    confidence = read_json(folder / "result.json")["measures"]["confidence"]
    assert 0 < confidence["other"] <= 1
    assert 0 < confidence["own"] <= 1


def test_the_lead_of_the_true_task_is_in_standard_deviations_of_the_others() -> None:
    scores = torch.tensor([[1.0, 4.0, 3.0, 8.0], [2.0, 0.0, 1.0, 5.0]], dtype=torch.float64)
    first = (8 - 4) / torch.tensor([1.0, 4.0, 3.0]).std()
    second = (0 - 5) / torch.tensor([2.0, 1.0, 5.0]).std()
    assert lead(scores, torch.tensor([3, 1])) == pytest.approx(float((first + second) / 2), abs=1e-6)
    assert lead(scores[:, :2], torch.tensor([0, 1])) is None
    assert lead(scores.masked_fill(scores == 0, float("-inf")), torch.tensor([3, 1])) is None
