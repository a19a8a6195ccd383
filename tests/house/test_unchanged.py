"""The house was rebuilt and nothing changed: 43 cheap runs give what they gave before, to the last digit.

`unchanged.json` was recorded at commit 51622b3, before the first file moved, by the commands of `record.py` in their old form.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.house.record import RUNS, record

BEFORE: dict[str, Any] = json.loads((Path(__file__).parent / "unchanged.json").read_text())
# What stood at the top of a result, and where it stands now.
PLACES = {
    "accuracy": "value",
    "forgetting": "measures.matrix.forgetting",
    "summary": "measures.matrix",
    "matrix": "measures.matrix.matrix",
    **{
        key: f"costs.{key}"
        for key in ("parameters_per_task", "bytes_per_task", "parameters_shared", "bytes_with_shared")
    },
    **{key: f"measures.masks.{key}" for key in ("masks", "overlap", "overlap_mean", "overlap_chance", "flipped")},
    "gates": "measures.gates.by_task",
    "gates_by_class": "measures.gates.by_class",
    **{key: f"measures.conditions.{key}" for key in ("swapped", "shuffled")},
    "analysis": "measures.weights",
    "sampled": "measures.sampled.accuracy",
    **{key: f"measures.bank.{key}" for key in ("learned", "stored_bytes_per_task", "bits_per_weight", "steps_to_90")},
    **{
        key: f"measures.{key}"
        for key in (
            "routing",
            "inference",
            "confidence",
            "mixed",
            "scenarios",
            "replay",
            "criteria",
            "reduced",
            "allocation",
        )
    },
    **{key: key for key in ("title", "role", "trained", "data", "selection")},
}
SINUSOIDS = {"meta.mse": "value", "meta.standard_error": "measures.sinusoids.standard_error"}
SINUSOIDS |= {"accuracy": "measures.sinusoids.explained"}
# A name of the config told again; the first of the groups under another key; a word for the arm.
TOLD_TWICE = ("method", "stream", "data.seed", "data.held_out", "meta.order", "meta.fast", "meta.learning")


def place(path: str, name: str) -> str | None:
    """Where a number stands now; None for what was a second telling of something else."""
    if path.rpartition(".")[2] in ("group", "group_size") and path.startswith("inference."):
        return None
    if path in TOLD_TWICE and not (path.startswith("data.") and not name.startswith(("meta", "fewshot", "waves"))):
        return None
    if name.startswith("waves") and path in SINUSOIDS:
        return SINUSOIDS[path]
    path = path.replace("router_", "predictor_")
    first, _, rest = path.partition(".")
    if first == "meta":
        return f"measures.{'few_shot' if name.startswith('fewshot') else 'streaming'}.{rest}"
    return f"{PLACES[first]}.{rest}" if rest else PLACES[first]


@pytest.mark.filterwarnings("ignore:the best rate of")
@pytest.mark.parametrize("name", RUNS)
def test_a_cheap_run_gives_what_it_gave(name: str, tmp_path: Path) -> None:
    before, now = BEFORE[name], record(name, tmp_path)
    for path, value in before["result"].items():
        where = place(path, name)
        if where is not None:
            value = (
                value.replace("router_", "predictor_") if isinstance(value, str) and path == "mixed.method" else value
            )
            assert now["result"].get(where) == value, (path, where)
    assert now["lines"] == before["lines"]
    assert now["stored"] == before["stored"]
    # Where no step was taken there was no checkpoint; there is one now.
    assert now["tensors"] == before["tensors"] or not before["tensors"]
