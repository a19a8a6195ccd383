"""Far tasks are what their names say of the images."""

from pathlib import Path

import pytest
import torch

from tasks.data.image_set import ImageSet
from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.runs.seeds import seeds
from tasks.transfer.far import described, far_tasks
from tests.images import write

OPTIONS = {"name": "tiny", "download": False, "side": None, "halve": False, "turn": 0, "rgb": None, "divide": False}


def made(tmp_path: Path, held_out: int | None = None, **more: object) -> tuple[ImageSet, ...]:
    root = write(tmp_path, "tiny")
    write(root, "other", classes=7, train=60)
    write(root, "large", side=10)
    data = {**OPTIONS, "root": root, "scaling": "unit", **more}
    return far_tasks(Bench(seeds(0), data=data, held_out=held_out), "other")


def test_each_view_is_that_of_its_name(tmp_path: Path) -> None:
    base, other, turned, inverted, permuted, other_turned = made(tmp_path)
    assert [t.name for t in (other, turned)] == ["other", "tiny, turned"]
    assert torch.equal(turned.train_images[:, 0, 0, :], base.train_images[:, 0, :, -1])
    assert torch.equal(
        inverted.test_images.int() + base.test_images.int(), torch.full_like(base.test_images, 255).int()
    )
    assert torch.equal(permuted.train_images.flatten(1).sort().values, base.train_images.flatten(1).sort().values)
    moved = [(permuted.train_images[i] == base.train_images[i]).float().mean() for i in range(3)]
    assert max(moved) < 0.5
    assert torch.equal(other_turned.train_images, torch.rot90(other.train_images, 1, (2, 3)))
    for task in (turned, inverted, permuted):
        assert torch.equal(task.train_labels, base.train_labels)
        assert torch.equal(task.test_labels, base.test_labels)


def test_both_sets_are_prepared_as_the_config_asks(tmp_path: Path) -> None:
    plain, turned = made(tmp_path), made(tmp_path, turn=1)
    for number in (0, 1):
        assert torch.equal(turned[number].test_images, torch.rot90(plain[number].test_images, 1, (2, 3)))


def test_held_out_images_are_training_images_in_the_place_of_the_test(tmp_path: Path) -> None:
    whole, held = made(tmp_path), made(tmp_path, held_out=20)
    for before, after in zip(whole, held, strict=True):
        together = torch.cat([after.train_images, after.test_images]).flatten(1).tolist()
        assert len(after.test_images) == 20
        assert sorted(together) == sorted(before.train_images.flatten(1).tolist())


def test_sets_that_do_not_go_together(tmp_path: Path) -> None:
    root = write(tmp_path, "tiny")
    write(root, "large", side=10)
    bench = Bench(seeds(0), data={**OPTIONS, "root": root, "scaling": "unit"})
    with pytest.raises(UserError, match=r"images of the first one's shape.*got tiny \(1, 8, 8\).*large \(1, 10, 10\)"):
        far_tasks(bench, "large")
    with pytest.raises(UserError, match=r"got data\.name=null"):
        far_tasks(Bench(seeds(0), data={**OPTIONS, "name": None, "root": root}), "large")
    with pytest.raises(UserError, match="held_out must leave images to train on; got 80 of 80"):
        made(tmp_path, held_out=80)


def test_what_is_recorded_tells_both_sets(tmp_path: Path) -> None:
    found = described(made(tmp_path))
    assert found["name"] == "tiny+other"
    (tmp_path / "b").mkdir()
    root = write(tmp_path / "b", "tiny")
    write(root, "other", classes=7, train=61)
    changed = far_tasks(Bench(seeds(0), data={**OPTIONS, "root": root, "scaling": "unit"}), "other")
    assert described(changed)["sha256"] != found["sha256"]
