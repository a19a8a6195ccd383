"""What a run says of its own training, against the same reductions written down by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from neuromod.analysis import density_mask
from tasks.config.load import load
from tasks.continual.measures import weights
from tasks.experiment import execute
from tasks.runs.files import read_json
from tests.images import write
from tests.tasks.setup import SMALL, bench, learner_of, state_of, stream_of, target_of

FEW = [*SMALL, "stream.tasks=1", "target.kwargs.hidden=[12,6]", "steps=20"]


def run(root: Path, experiment: str, *overrides: str) -> Path:
    data = write(root / "data", "mnist", train=400)
    given = [f"experiment={experiment}", f"data.root='{data}'", *overrides]
    return execute(load(given), root=root / "runs", command=["x"], results=root)


def test_masks_of_a_criterion_are_laid_over_the_weights_that_training_began_with(tmp_path: Path) -> None:
    folder = run(tmp_path, "supermask/criteria", *FEW, "criteria.densities=[0.3,0.6]")
    result, config = read_json(folder / "result.json"), read_json(folder / "config.json")
    stream = stream_of(config)
    start = target_of(config)
    net = start.pristine
    final = {k: v for k, v in torch_state(folder).items() if v.ndim > 1}
    for name, score in (
        ("large_final", lambda w, v: v.abs()),
        ("magnitude_increase_same_sign", lambda w, v: (v.abs() - w.abs()) * (v.sign() == w.sign())),
    ):
        found = result["measures"]["criteria"][name]
        assert [share for share, _ in found["init"]["curve"]] == [0.3, 0.6]
        for place, share in enumerate((0.3, 0.6)):
            weights = {k: start.tensors()[k] for k in final}
            masks = {k: density_mask(score(w, final[k]), share) for k, w in weights.items()}
            plain = {k: w * masks[k] for k, w in weights.items()}
            constant = {k: w.sign() * w.std(correction=0) * masks[k] for k, w in weights.items()}
            for label, made in (("init", plain), ("constant", constant)):
                assert found[label]["curve"][place][1] == pytest.approx(accuracy(net, made, stream))
        assert found["init"]["accuracy"] in [value for _, value in found["init"]["curve"]]
    assert result["measures"]["weights"]["sign_agreement"].keys() == final.keys()
    moved = {k: float((final[k] - start.tensors()[k]).norm() / start.tensors()[k].norm()) for k in final}
    assert result["measures"]["weights"]["distance"] == pytest.approx(moved, abs=1e-5)


def torch_state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a finished dense run by the network's own names."""
    tree = state_of(folder)["learner"]
    return {key.removeprefix("net."): value for key, value in tree.items()}


@torch.no_grad()
def accuracy(net: nn.Module, weights: dict[str, torch.Tensor], stream: object) -> float:
    (task,) = stream  # type: ignore[misc, attr-defined]
    x = task.view(task.test.images)
    layers = iter(weights.values())
    for module in net:  # type: ignore[union-attr, attr-defined]
        x = x @ next(layers).T if isinstance(module, nn.Linear) else module(x)
    return float((x.argmax(1) == task.test.labels).double().mean())


def test_drawn_masks_are_measured_beside_the_rounded_one(tmp_path: Path) -> None:
    few = ["stream.tasks=1", "target.kwargs.hidden=[12,6]", "steps=3", "batch=8", "device=cpu", "optimizer.lr=0.1"]
    folder = run(tmp_path, "supermask/bernoulli", *few)
    result, config = read_json(folder / "result.json"), read_json(folder / "config.json")
    stream = stream_of(config)
    learner = learner_of(config, folder)
    learner.eval()
    (task,) = stream
    x = task.view(task.test.images)
    with torch.no_grad():
        right = [(learner.model(x, task=0, draw=i).argmax(1) == task.test.labels).double().mean() for i in range(10)]
    assert len({float(value) for value in right}) > 1
    assert result["measures"]["sampled"]["accuracy"] == pytest.approx(float(sum(right)) / 10)
    assert "sampled" not in read_json(run(tmp_path, "supermask/threshold", *few) / "result.json")["measures"]


def test_masks_of_two_starts_overlap_as_they_say(tmp_path: Path) -> None:
    few = ["stream.tasks=2", "target.kwargs.hidden=[12,6]", "steps=3", "batch=8", "device=cpu"]
    folder = run(tmp_path, "supermask/starts", *few)
    result = read_json(folder / "result.json")["measures"]["masks"]
    assert result["overlap"][0][1] == pytest.approx(result["overlap_mean"], abs=1e-4)
    assert result["overlap_chance"] == pytest.approx(1 / 3, abs=0.05)


def test_gains_near_zero_are_counted_set_to_zero_and_put_back(tmp_path: Path) -> None:
    small = ["target.kwargs.depth=8", "target.kwargs.width=4", "stream.tasks=1", "steps=6", "batch=8", "device=cpu"]
    folder = run(tmp_path, "bn_only/mnist", *small, "log_every=1", "save_every=1")
    result, config = read_json(folder / "result.json"), read_json(folder / "config.json")
    assert {"near_zero", "near_zero_share", "zeroed_cost", "random_zeroed_cost"} <= result["measures"]["weights"].keys()
    stream = stream_of(config)
    learner = learner_of(config, folder)
    learner.eval()
    gains = [p for name, p in learner.named_parameters() if name.endswith("/gain")]
    with torch.no_grad():
        for gain in gains[:3]:
            gain[0] = 0.005
    before = [gain.clone() for gain in gains]
    found = weights.measure(learner, stream, bench(0))
    assert all(torch.equal(a, b) for a, b in zip(before, gains, strict=True))
    flat = torch.cat([gain.detach() for gain in gains])
    assert found["near_zero_share"] == pytest.approx(float((flat.abs() < 0.01).double().mean()))
    assert found["near_zero_share"] >= 3 / len(flat)
    assert sorted(g for layer in found["gammas"].values() for g in layer) == pytest.approx(
        sorted(flat.tolist()), abs=1e-4
    )
    (task,) = stream

    def right() -> float:
        with torch.no_grad():
            return float((learner(task.view(task.test.images), 0).argmax(1) == task.test.labels).double().mean())

    whole = right()
    with torch.no_grad():
        for gain in gains:
            gain[gain.abs() < 0.01] = 0.0
    assert found["zeroed_cost"] == pytest.approx(whole - right())
