"""Sites are chosen purely, axes are found, and the fingerprint is of every byte."""

import re

import pytest
import torch
from torch import nn

from neuromod import Target
from tasks.networks import conv

IMAGES = torch.zeros(2, 2, 8, 8)
BUILD = "tasks.networks:conv"


def target() -> Target:
    return Target(conv((2, 8, 8), 5, (4, 6)), IMAGES)


@pytest.mark.parametrize(
    ("patterns", "exclude", "names"),
    [
        (("*",), (), ["0.weight", "4.weight", "9.weight"]),
        (("0", "9.weight"), (), ["0.weight", "9.weight"]),
        ((re.compile(r"^[04]\."),), (), ["0.weight", "4.weight"]),
        ((nn.Linear,), (), ["9.weight"]),
        ((lambda name, module: getattr(module, "out_channels", 0) == 6,), (), ["4.weight"]),
        (("*",), nn.Conv2d, ["9.weight"]),
        (("*",), ["0*", re.compile("^9")], ["4.weight"]),
        (("1.bias",), (), ["1.bias"]),
    ],
)
def test_weights_are_chosen_by_glob_regex_type_callable_and_exclusion(patterns, exclude, names) -> None:
    assert [site.name for site in target().weights(*patterns, exclude=exclude)] == names


def test_choosing_sites_changes_nothing() -> None:
    t = target()
    before = [*t.pristine.state_dict()], t.fingerprint(), [m._forward_hooks.copy() for m in t.pristine.modules()]
    t.weights("*"), t.outputs(nn.ReLU), t.norms(), t.statistics(), t.head()
    assert before == ([*t.pristine.state_dict()], t.fingerprint(), [m._forward_hooks for m in t.pristine.modules()])
    t.verify()


def test_axes_of_an_output_are_found() -> None:
    sites = {site.name: site for site in target().outputs("0", "1", "2", "9")}
    assert {name: (s.shape, s.channel, s.batch) for name, s in sites.items()} == {
        "0": ((4,), 1, 0),
        "1": ((4,), 1, 0),
        "2": ((4,), 1, 0),
        "9": ((5,), -1, 0),
    }


def test_the_fingerprint_is_of_names_shapes_dtypes_and_bytes() -> None:
    net = conv((2, 8, 8), 5, (4, 6))
    first = Target(net, IMAGES)
    assert len(bytes.fromhex(first.fingerprint())) == 32
    assert Target(net, IMAGES).fingerprint() == first.fingerprint()
    net[1].running_mean[0] = 1e-30
    assert Target(net, IMAGES).fingerprint() != first.fingerprint()
    first.verify()  # buffers are clones: the user's BatchNorm may move
