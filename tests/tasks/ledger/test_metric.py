import pytest

from tasks.errors import UserError
from tasks.ledger.metric import number

FLAT = {"title": "t", "accuracy": 0.9, "matrix": [[0.1], [0.2, 0.3]], "inference": {"one_shot": {"image": 0.5}}}
NEW = {
    "title": "t",
    "metric": "explained",
    "value": 0.7,
    "better": "higher",
    "costs": {"bytes_per_task": 32, "value": 3.0},
    "measures": {"inference": {"one_shot": {"image": 0.5}}, "matrix": {"final": [0.1, 0.2]}},
    "data": {"name": "digits", "tasks": 5},
}


@pytest.mark.parametrize(
    ("result", "path", "value"),
    [
        (FLAT, "accuracy", 0.9),
        (FLAT, "matrix.-1.1", 0.3),
        (FLAT, "matrix.0.0", 0.1),
        (FLAT, "inference.one_shot.image", 0.5),
        (NEW, "explained", 0.7),
        (NEW, "bytes_per_task", 32),
        (NEW, "value", 3.0),  # costs stand before the plain path
        (NEW, "inference.one_shot.image", 0.5),
        (NEW, "measures.inference.one_shot.image", 0.5),
        (NEW, "matrix.final.-1", 0.2),
        (NEW, "data.tasks", 5),
    ],
)
def test_a_number_of_either_form_of_result(result, path, value):
    assert number(result, path) == value


@pytest.mark.parametrize(
    ("result", "path", "message"),
    [
        (FLAT, "accurcy", "got 'accurcy'; nearest: 'accuracy'"),
        (NEW, "explaind", "'explained'"),
        (NEW, "inference.one_shot.imag", "'inference.one_shot.image'"),
        (NEW, "byte_per_task", "'bytes_per_task'"),
        (NEW, "matrix.final.2", "'matrix.final.-1'"),
        (
            FLAT,
            "inference",
            "inference must be a finite number.*got more than one value; nearest: 'inference.one_shot.image'",
        ),
        (FLAT, "title", "title must be a finite number in a result; got 't'"),
        ({"accuracy": "nan"}, "accuracy", "got 'nan'"),
        ({"accuracy": None}, "accuracy", "got None"),
        ({"accuracy": True}, "accuracy", "got True"),
    ],
)
def test_what_is_no_number_is_refused_with_the_nearest_path(result, path, message):
    with pytest.raises(UserError, match=message) as caught:
        number(result, path)
    assert "\n" not in str(caught.value)
