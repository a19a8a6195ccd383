import math
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch

from tasks.runs.checkpoint import from_file, to_bytes

PAIR = namedtuple("PAIR", "a b")


def round_trip(tree, tmp_path):
    (tmp_path / "tree").write_bytes(to_bytes(tree))
    return from_file(tmp_path / "tree")


def test_plain_values_come_back_as_they_were(tmp_path):
    tree = {
        0: "int key",
        "0": "text key",
        (1, "a"): [],
        "tuple": (1, (), [2, None, True, False]),
        "floats": [0.1, -0.0, 1e-320, math.inf, -math.inf, 1.0],
        "text": ["", "f", "ü\n", '["t", "x"]'],
        "marks": ["t", "f"],
        "large": 2**80,
        None: {},
    }
    back = round_trip(tree, tmp_path)
    assert back == tree
    assert repr(back) == repr(tree)
    assert math.isnan(round_trip([math.nan], tmp_path)[0])


def test_tensors_come_back_bit_for_bit_wherever_they_lie(tmp_path):
    a, b = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([math.nan, -0.0, 1e-40])
    tree = {
        0: a,
        "0": b,
        "x/y": a.t(),
        "x": {"y": torch.tensor(True)},
        "tied": (a, a[:2]),
        "none": torch.empty(0, 5, dtype=torch.int8),
        "half": a.bfloat16(),
        "parameter": torch.nn.Parameter(a),
    }
    back = round_trip(tree, tmp_path)
    assert list(back) == list(tree)
    for found, sent in (
        (back[0], a),
        (back["0"], b),
        (back["x/y"], a.t()),
        (back["x"]["y"], tree["x"]["y"]),
        (back["tied"][0], a),
        (back["tied"][1], a[:2]),
        (back["none"], tree["none"]),
        (back["half"], tree["half"]),
        (back["parameter"], a),
    ):
        assert (found.dtype, found.shape, found.requires_grad) == (sent.dtype, sent.shape, False)
        # Bytes, because nan equals nothing and -0.0 equals 0.0.
        assert torch.equal(found.flatten().view(torch.uint8), sent.detach().flatten().view(torch.uint8))
    assert round_trip(a, tmp_path).equal(a)


def test_an_optimiser_goes_on_as_if_it_had_never_stopped(tmp_path):
    def make():
        weight = torch.nn.Parameter(torch.arange(3.0))
        return weight, torch.optim.AdamW([weight], lr=0.1, betas=(0.8, 0.99))

    def step(weight, optimiser):
        optimiser.zero_grad()
        weight.square().sum().backward()
        optimiser.step()

    weight, optimiser = make()
    for _ in range(3):
        step(weight, optimiser)
    saved = round_trip({"weight": weight, "optimiser": optimiser.state_dict()}, tmp_path)
    other, resumed = make()
    other.data.copy_(saved["weight"])
    resumed.load_state_dict(saved["optimiser"])
    for _ in range(3):
        step(weight, optimiser)
        step(other, resumed)
    assert torch.equal(weight, other)
    assert saved["optimiser"]["param_groups"][0]["betas"] == (0.8, 0.99)


def test_equal_trees_give_equal_bytes():
    def tree():
        return {str(i): {i: torch.full((2,), i), "f": 0.1} for i in range(20)}

    # safetensors orders several keys of metadata anew at each call, so a second key would show here.
    assert len({to_bytes(tree()) for _ in range(20)}) == 1


@pytest.mark.parametrize("value", [{1, 2}, object(), PAIR(1, 2), np.int64(3), b"x"])
def test_what_a_checkpoint_does_not_hold_is_named_with_its_place(value):
    with pytest.raises(TypeError, match="at 'a/1'"):
        to_bytes({"a": [0, value]})


def test_ordered_dicts_and_sizes_become_plain_ones(tmp_path):
    back = round_trip({"state": OrderedDict(b=1, a=2), "size": torch.Size([2, 3])}, tmp_path)
    assert back == {"state": {"b": 1, "a": 2}, "size": (2, 3)}
    assert (type(back["state"]), list(back["state"]), type(back["size"])) == (dict, ["b", "a"], tuple)
