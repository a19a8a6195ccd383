"""What is done to images before they become a stream, and trained networks that are frozen."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tasks.config.load import load
from tasks.continual.streams import permuted
from tasks.data.prepare import prepared, rgb
from tasks.errors import UserError
from tasks.networks import mlp
from tasks.networks.weights import with_weights
from tests.images import write
from tests.tasks.setup import target_of

PLAIN = {"divide": False, "halve": False, "side": None, "turn": 0, "rgb": None, "scaling": "standard"}


def test_nothing_is_done_that_is_not_asked(tiny):
    made = prepared(tiny, PLAIN)
    assert torch.equal(made.train_images, tiny.train_images)
    assert made.substitute == tiny.substitute


def test_a_quarter_turn_is_counter_clockwise(tiny):
    made = prepared(tiny, PLAIN | {"turn": 1})
    assert torch.equal(made.test_images[0, 0, -1], tiny.test_images[0, 0, :, 0])


def test_unit_scaling_leaves_pixels_between_black_and_white(tiny):
    made = prepared(tiny, PLAIN | {"scaling": "unit"})
    seen = permuted(made, 1, 0, first_identity=True)[0].view(made.test_images)
    assert torch.equal(seen, made.test_images.float() / 255)
    with pytest.raises(UserError, match="'unitt'"):
        prepared(tiny, PLAIN | {"scaling": "unitt"})


def test_images_are_resized_to_a_side_each_pixel_a_mean(tiny):
    made = prepared(tiny, PLAIN | {"side": 3}).train_images
    assert made.dtype == torch.uint8
    assert made.shape[2:] == (3, 3)
    # From 6 to 3 pixels a tent of 4 pixels: 1, 3, 3, 1 inside, cut at the border.
    row = tiny.train_images[0, 0].double() @ torch.tensor([0.0, 1, 3, 3, 1, 0], dtype=torch.float64) / 8
    middle = row @ torch.tensor([0.0, 1, 3, 3, 1, 0], dtype=torch.float64) / 8
    assert abs(int(made[0, 0, 1, 1]) - float(middle)) <= 0.51
    assert torch.equal(prepared(tiny, PLAIN | {"side": 6}).test_images, tiny.test_images)
    with pytest.raises(UserError, match="got 0"):
        prepared(tiny, PLAIN | {"side": 0})


def test_grey_images_are_repeated_and_padded_evenly(tiny):
    made = rgb(tiny.train_images, 9)
    assert made.shape == (len(tiny.train_images), 3, 9, 9)
    assert torch.equal(made[:, 0], made[:, 2])
    assert torch.equal(made[:, 1, 1:7, 1:7], tiny.train_images[:, 0])
    assert int(made.sum()) == 3 * int(tiny.train_images.sum())
    with pytest.raises(UserError, match="rgb=4"):
        rgb(tiny.train_images, 4)


def test_a_set_with_one_part_is_divided_if_asked(image_set):
    one = image_set(test=0)
    made = prepared(one, PLAIN | {"divide": True})
    assert len(made.test_images) * 4 == len(made.train_images)
    assert "cut from the train part" in made.substitute


def network(root: Path, **kwargs: object):
    return with_weights("tasks.networks:mlp", {"shape": [1, 6, 6], "outputs": 4, "hidden": [5], **kwargs}, "net", root)


def test_a_trained_network_is_frozen_as_its_file_has_it(tmp_path, tiny):
    net = mlp((1, 6, 6), 4, (5,))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    assert torch.equal(network(tmp_path)[1].weight, net[1].weight)
    write(tmp_path, "tiny", classes=4, side=6)
    given = ["experiment=piggyback/probe", "data=tiny", "data.rgb=null", "outputs=4", f"data.root='{tmp_path}'"]
    asked = load(given)["run"]["target"] | {
        "constructor": "tasks.networks:mlp",
        "kwargs": {"hidden": [5]},
        "weights": "net",
    }
    config = load(given)
    config["run"] |= {"target": asked, "stream": config["run"]["stream"]}
    target = target_of(config)
    assert torch.equal(target.tensors()["1.weight"], net[1].weight)


def test_weights_that_are_missing_or_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"net\.safetensors does not exist"):
        network(tmp_path)
    (tmp_path / "net.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="must hold the weights"):
        network(tmp_path)
    save_file(mlp((1, 6, 6), 4, (7,)).state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="size mismatch"):
        network(tmp_path)
