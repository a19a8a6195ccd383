import json
import math
import os

import numpy as np
import pytest
import torch

from tasks.runs.files import canonical, dumps, strict, write_atomic


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "half")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"new"


def test_json_is_strict_and_exact():
    record = {"nan": math.nan, "inf": (math.inf, -math.inf), "one": np.float32(1), "t": torch.tensor([1, 2]), "f": 0.1}
    assert strict(record) == {"nan": "nan", "inf": ["inf", "-inf"], "one": 1.0, "t": [1, 2], "f": 0.1}
    assert math.isnan(float(json.loads(dumps(record))["nan"]))
    assert canonical({"b": 1, "a": 2}) == '{"a":2,"b":1}'
    with pytest.raises(TypeError, match=r"got 1 in value\.a"):
        strict({"a": {1: 2}})
    with pytest.raises(TypeError, match=r"got set in value\.a\[0\]"):
        strict({"a": [{1}]})
