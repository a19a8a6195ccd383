"""Several image sets in one stream, and the law of the loop: trained jointly, a task ends where it ends alone."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.config.load import load
from tasks.continual.learners.base import sum_over_tasks
from tasks.continual.streams import normalisation, several
from tasks.data.image_set import divided
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.runs.files import read_json
from tests.images import write
from tests.tasks.setup import learner_of, state_of, stream_of

CLASSES = {"tiny": 10, "small": 6, "little": 3}
ASKED = ["experiment=several/affine_heads", "data=tiny", "stream.tasks=3", "stream.others=[small,little]"]
ASKED += ["target.kwargs.hidden=[16]", "device=cpu", "schedule=constant", "log_every=5"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, classes in CLASSES.items():
        write(folder, name, classes=classes, train=30 * classes)
    write(folder, "coloured", channels=3)
    write(folder, "large", side=12)
    return folder


# ---- the stream --------------------------------------------------------------------------------------------------------


def test_every_task_is_a_set_with_its_own_classes_and_normalisation(root: Path) -> None:
    stream = stream_of(load([*ASKED, f"data.root='{root}'"]))
    assert [task.name for task in stream] == ["several-0-tiny", "several-1-small", "several-2-little"]
    assert [task.classes for task in stream] == list(CLASSES.values())
    assert (stream.classes, stream.shape) == (10, (1, 8, 8))
    for task, classes in zip(stream, CLASSES.values(), strict=True):
        assert set(task.train.labels.tolist()) == set(range(classes))
        seen = task.view(task.train.images).double()
        assert (float(seen.mean()), float(seen.std())) == pytest.approx((0, 1), abs=1e-3)
    assert stream.describe()["name"] == "tiny+small+little"
    fewer = stream_of(load([*ASKED, f"data.root='{root}'", "stream.tasks=2"]))
    assert [task.name for task in fewer] == ["several-0-tiny", "several-1-small"]
    assert len({stream.describe()["sha256"], fewer.describe()["sha256"], fewer.image_set.sha256}) == 2


def test_the_packaged_digits_are_a_set_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROMOD_DATA", raising=False)
    stream = stream_of(load(["experiment=several/affine_heads", "stream.others=[mnist]"]))
    assert [len(task.train) for task in stream] == [4000, 4000]
    described = stream.describe()
    assert described["name"] == "mnist+mnist"
    assert described["substitute"].count("stand in") == 1


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_set_of_one_part_is_divided_by_every_fifth_image_of_a_class(image_set: Any, part: str) -> None:
    whole = image_set(train=44, test=0)
    if part == "test":
        swapped = {"test_images": whole.train_images, "test_labels": whole.train_labels}
        whole = dataclasses.replace(whole, train_images=whole.test_images, train_labels=whole.test_labels, **swapped)
    found = divided(whole)
    images = getattr(whole, f"{part}_images")
    # Labels go round four classes: the fifth image of a class is number 16 to 19, the tenth number 36 to 39.
    held = [16, 17, 18, 19, 36, 37, 38, 39]
    assert torch.equal(found.test_images, images[held])
    assert torch.equal(found.train_images, images[[i for i in range(44) if i not in held]])
    assert found.test_labels.tolist() == [0, 1, 2, 3] * 2
    assert found.substitute == f"36 train and 8 test images are cut from the {part} part of tiny"
    assert torch.equal(
        several(whole, 1, 0, others=[])[0].view(found.test_images), normalisation(found)(found.test_images)
    )


def test_a_set_of_two_parts_is_left_and_a_small_one_refused(tiny: Any, image_set: Any) -> None:
    assert divided(tiny) is tiny
    with pytest.raises(UserError, match=r"a class needs 5 images .* tiny has fewer of some"):
        divided(image_set(train=19, test=0))


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("stream.others=[coloured,small]", "1 x 8 x 8 in tiny and 3 x 8 x 8 in coloured; make them all grey"),
        ("stream.others=[small,large]", "1 x 8 x 8 in tiny and 1 x 12 x 12 in large; resize"),
        ("stream.tasks=4", "got 4 tasks for 3 sets; ask for fewer tasks, or add to others"),
        ("stream.others=[small,litle]", "'litle' was not found.*nearest names: 'little'"),
    ],
)
def test_sets_that_do_not_fit_are_refused(override: str, parts: str, root: Path) -> None:
    with pytest.raises(UserError, match=parts) as caught:
        stream_of(load([*ASKED, f"data.root='{root}'", override]))
    assert "\n" not in str(caught.value)


# ---- the loop ----------------------------------------------------------------------------------------------------------


def test_every_head_has_the_outputs_of_its_task(root: Path) -> None:
    config = load([*ASKED, f"data.root='{root}'"])
    stream = stream_of(config)
    learner = learner_of(config).eval()
    x = stream[0].view(stream[0].test.images[:4])
    assert [learner(x, task).shape[1] for task in range(3)] == list(CLASSES.values())
    wide = load([*ASKED, f"data.root='{root}'", "modulators.head.kind.width=12"])
    assert learner_of(wide)(x, 2).shape == (4, 12)


def test_the_loss_is_the_sum_over_tasks_of_their_means() -> None:
    losses, ids = torch.arange(7.0), torch.tensor([4, 0, 4, 4, 0, 2, 4])
    slow = sum(sum(same) / len(same) for t in (0, 2, 4) for same in [[x for x, i in enumerate(ids.tolist()) if i == t]])
    assert float(sum_over_tasks(losses, ids)) == pytest.approx(slow)


OPTIMIZERS = {"momentum": ["optimizer=sgd", "optimizer.lr=0.05"], "adam": ["optimizer=adam", "optimizer.lr=0.003"]}
KINDS = ("threshold_table", "bn_only_table", "head_table", "lora_table", "affine_heads")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_joint_training_equals_separate_training(kind: str, optimizer: str, root: Path, tmp_path: Path) -> None:
    given = [*ASKED, f"data.root='{root}'", f"modulator={kind}", *OPTIMIZERS[optimizer]]
    orders = {
        "joint": ["run=joint", "batch=24", "steps=10"],
        "sequence": ["run=sequence", "batch=8", "steps=30"],
    }
    states, rows = {}, {}
    for order, options in orders.items():
        folder = execute(load([*given, *options]), root=tmp_path, command=[], results=tmp_path)
        states[order] = state_of(folder)["learner"]
        rows[order] = read_json(folder / "result.json")["measures"]["matrix"]["matrix"][-1]
    config = load(given)
    start = learner_of(config).state_dict()
    assert set(states["joint"]) == set(states["sequence"]) == set(start)
    for name, value in states["joint"].items():
        torch.testing.assert_close(value, states["sequence"][name], rtol=0, atol=1e-5, msg=name)
        assert "source" not in name or float((value - start[name]).abs().max()) > 1e-3
    assert rows["joint"] == rows["sequence"]


def test_the_other_sets_are_prepared_as_the_first_is(root: Path) -> None:
    given = [*(item for item in ASKED if "others" not in item), f"data.root='{root}'", "stream.others=[large,coloured]"]
    stream = stream_of(load([*given, "data.side=8", "data.rgb=10"]))
    assert stream.shape == (3, 10, 10)
    assert all(task.train.images.shape[1:] == (3, 10, 10) for task in stream)
