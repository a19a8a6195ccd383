"""The first sentence of a report reads well with one seed or three, and where lower is better."""

import pytest

from tasks.report import data_used, headline
from tasks.report.read import Run


def run(
    value: float, metric: str = "accuracy", better: str = "higher", title: str = "masks", role: str = "modulator"
) -> Run:
    said = {"title": title, "metric": metric, "value": value, "better": better, "role": role, "costs": None}
    matrix = {"matrix": {"forgetting": 0.125}} if metric == "accuracy" else {}
    return Run(
        title, {}, {}, (), said | {"measures": matrix, "data": {"name": "digits", "tasks": 5, "stream": "permuted"}}
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.9], "masks: 90.00 % accuracy over 5 tasks of permuted, one seed, so without an interval; forgets 12.50 %."),
        (
            [0.9, 0.91, 0.92],
            "masks: 91.00 % accuracy over 5 tasks of permuted, mean of 3 seeds (95 % interval 88.52 to 93.48; "
            "each 90.00, 91.00, 92.00); forgets 12.50 %.",
        ),
    ],
)
def test_a_headline_says_how_many_seeds_stand_behind_it(values: list[float], words: str) -> None:
    assert headline([run(value) for value in values]) == words


def test_where_lower_is_better_the_lowest_mean_leads() -> None:
    runs = [run(v, "mean squared error", "lower", title) for title, v in (("A", 0.3), ("B", 0.1), ("B", 0.2))]
    said = headline(runs)
    assert said.startswith(
        "B: mean squared error 0.15 (lower is better) over 5 tasks of permuted, mean of 2 seeds (95 % "
    )
    assert said.endswith("; each 0.1, 0.2).")
    ends = [run(v, "mean squared error", "lower", title, "bracket") for title, v in (("none", 0.9), ("all", 0.05))]
    assert headline([*runs, *ends]).endswith(
        "Brackets: mean squared error 0.9 (none) to mean squared error 0.05 (all)."
    )


def test_seeds_of_one_data_set_name_it_once() -> None:
    data = {"name": "digits", "sha256": "ab", "substitute": "fewer digits", "tasks": 5}
    seen = data_used([Run("masks", {}, {}, (), {"data": data | {"seed": seed}}) for seed in range(3)])
    assert [(one["name"], one["substitute"]) for one in seen] == [("digits", "fewer digits")]
