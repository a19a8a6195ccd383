"""A difference that the docs claim has an interval that excludes zero; where it includes zero they claim nothing."""

import re
from pathlib import Path

import pytest

from tasks.ledger.store import load, load_ledger
from tasks.report.interval import difference, interval
from tasks.runs.files import read_json

ROOT = Path(__file__).parents[3]
ROWS = {row["row"]: row for row in load_ledger(ROOT / "results")}

STREAMS = ("permuted", "rotated", "split")

# (page, words, a row, another): the words claim that the first mean is above the second: its interval excludes zero.
SHOWN = (
    (
        "meta.md",
        "half as much again**: 27 % of 100 characters, 18 % without a gate",
        "meta-anml-100",
        "meta-gate-one-100",
    ),
    ("meta.md", "ANML is above the learned vector", "meta-anml-100", "meta-gate-static-100"),
    ("meta.md", "the gate alone is worth more than a trained network", "meta-frozen-gate-100", "meta-gate-one-100"),
    ("meta.md", "Without the gate ridge knows more", "meta-gate-one-ridge-600", "meta-anml-ridge-600"),
    ("meta.md", "knows more by all three computed heads", "meta-oml-ridge-600", "meta-anml-ridge-600"),
    ("meta.md", "knows more by all three computed heads", "meta-oml-means-600", "meta-anml-means-600"),
    ("meta.md", "knows more by all three computed heads", "meta-oml-slda-600", "meta-anml-slda-600"),
    ("meta.md", "at 600 the head alone is above", "meta-anml-head-600", "meta-anml-600"),
    ("meta.md", "Resetting costs features", "meta-sequential-kept-slda-600", "meta-sequential-slda-600"),
    ("meta.md", "repairs a random network", "fewshot-film-random", "fewshot-off-random"),
    ("conditioning.md", "FiLM of the input beats", "conditioning-film-input", "conditioning-film-table-task"),
    ("conditioning.md", "beats a generated one of the task", "conditioning-gate-input", "conditioning-gate-task"),
    ("conditioning.md", "both beat the table", "conditioning-film-random", "conditioning-film-table-task"),
    ("conditioning.md", "both beat the table", "conditioning-gate-random", "conditioning-gate-table-task"),
    ("conditioning.md", "of the task they gain .4 points", "conditioning-masks-task", "conditioning-masks-constant"),
    ("conditioning.md", "better than inferring it by entropy", "routing-mixture", "routing-bank-inferred"),
    ("random_networks.md", "trained from the start, do better", "supermask-dense-small", "supermask-edge-popup"),
    ("random_networks.md", "grow as less is kept", "supermask-edge-popup-10-scaled", "supermask-edge-popup-10"),
    ("random_networks.md", "training is above edge-popup", "conv2-dense", "conv2-edge-popup"),
    ("random_networks.md", "depth 32 than depth 8", "bn-only-32", "bn-only-8"),
    ("random_networks.md", "31 and 35 points behind", "bn-only-8", "bn-random-8"),
    ("random_networks.md", "31 and 35 points behind", "bn-only-14", "bn-random-14"),
    ("random_networks.md", "lose half of KMNIST", "piggyback-kmnist-masks", "piggyback-kmnist-masks-frozen"),
    ("random_networks.md", "eleven points on KMNIST", "piggyback-kmnist-bn-only", "piggyback-kmnist-film"),
    ("random_networks.md", "two on turned CIFAR-10", "piggyback-turned-bn-only", "piggyback-turned-film"),
    ("growth.md", "win against low-rank deltas on rotations", "equal-wires-rotated", "equal-lowrank-rotated"),
    ("growth.md", "masks that move by a rule lose to all three", "equal-masks-permuted", "equal-moving-permuted"),
    ("growth.md", "masks that move by a rule lose to all three", "equal-masks-rotated", "equal-moving-rotated"),
    ("descriptions.md", "is above that of the nearest training task", "described-film", "described-film-nearest"),
    ("descriptions.md", "above the mean of all training rows", "described-film", "described-film-mean-row"),
    ("descriptions.md", "for the nearest description", "described-film", "described-film-own-nearest"),
    ("descriptions.md", "the task itself FiLM is better still", "described-film-trained", "described-film"),
    ("descriptions.md", "of the nearest training task (8.8", "described-turn", "described-turn-nearest"),
    ("descriptions.md", "for which angles stand close", "described-turn", "described-turn-own-nearest"),
    ("descriptions.md", "The mean row stays at chance", "described-turn", "described-turn-mean-row"),
    ("descriptions.md", "Trained on each, FiLM reaches", "described-turn-trained", "described-turn"),
    ("descriptions.md", "those of the nearest training task 59.5", "described-lowrank", "described-lowrank-nearest"),
    ("descriptions.md", "their mean 51.2", "described-lowrank", "described-lowrank-mean-row"),
    ("descriptions.md", "gives for the nearest description 62.8", "described-lowrank", "described-lowrank-own-nearest"),
    ("descriptions.md", "nearest training task 55.1", "described-masks", "described-masks-nearest"),
    ("descriptions.md", "their mean 51.8", "described-masks", "described-masks-mean-row"),
    ("descriptions.md", "Trained on each they reach 98.9", "described-lowrank-trained", "described-lowrank"),
    ("bank.md", "reading the input wins on SplitMNIST", "matrix-split-film-input", "matrix-split-masks-table-inferred"),
)
# The words say that nothing is shown: the interval includes zero.
OPEN = (
    ("meta.md", "one learned vector for all images may give two", "meta-gate-static-100", "meta-gate-one-100"),
    ("meta.md", "three trainings show neither", "meta-gate-random-100", "meta-gate-one-100"),
    ("meta.md", "show no difference", "meta-gate-one-means-600", "meta-anml-means-600"),
    ("meta.md", "show no difference", "meta-gate-one-slda-600", "meta-anml-slda-600"),
    ("meta.md", "show no difference", "meta-gate-one-iid-600", "meta-anml-iid-600"),
    ("meta.md", "by Adam it is not told from ANML", "meta-oml-adam-600", "meta-anml-adam-600"),
    ("meta.md", "is not seen to buy anything** at this budget", "meta-anml-100", "meta-anml-first-100"),
    ("meta.md", "nor at 600", "meta-anml-600", "meta-anml-first-600"),
    ("meta.md", "nor at 100 between moving", "meta-anml-100", "meta-anml-head-100"),
    ("meta.md", "is not seen to gain from it", "meta-sequential-kept-100", "meta-random-100"),
    ("meta.md", "do not tell from none", "fewshot-film-trained", "fewshot-off-trained"),
    ("conditioning.md", "three seeds do not show", "conditioning-gate-input", "conditioning-gate-table-task"),
    ("conditioning.md", "of the input none that is seen", "conditioning-masks-input", "conditioning-masks-constant"),
    ("random_networks.md", "as far as three seeds show", "supermask-dense-small", "supermask-15k-bernoulli"),
    ("random_networks.md", "do not place the half width", "conv2-dense", "conv2-small"),
    ("random_networks.md", "do not place the half width", "conv2-small", "conv2-edge-popup"),
    ("random_networks.md", "no single step is shown", "bn-only-14", "bn-only-8"),
    ("random_networks.md", "three seeds do not tell from none", "piggyback-kmnist-finetune", "piggyback-kmnist-masks"),
    ("random_networks.md", "three seeds do not tell from none", "piggyback-turned-finetune", "piggyback-turned-masks"),
    ("random_networks.md", "Nor do they show", "piggyback-turned-masks", "piggyback-turned-masks-other-rate"),
    *(("growth.md", "Grown wires tie with masks", f"equal-masks-{s}", f"equal-wires-{s}") for s in STREAMS),
    ("growth.md", "and tie elsewhere", "equal-wires-permuted", "equal-lowrank-permuted"),
    ("growth.md", "and tie elsewhere", "equal-wires-split", "equal-lowrank-split"),
    ("descriptions.md", "three seeds do not show a gain", "described-masks", "described-masks-own-nearest"),
    ("bank.md", "do not tell it from masks", "matrix-permuted-film-input", "matrix-permuted-masks-table-inferred"),
)


def text(page: str) -> str:
    return " ".join((ROOT / "docs" / page).read_text().split())


def ends(row: str, other: str) -> tuple[float, float]:
    """The 95 % interval of a difference in points, paired by seed."""
    assert ROWS[row]["seeds"] == ROWS[other]["seeds"]
    found = difference(ROWS[row]["values"], ROWS[other]["values"])
    assert found is not None
    return 100 * found[0], 100 * found[1]


def printed(row: str, other: str) -> str:
    """An interval as the docs write it, ``-.4 to 4.9``; with two digits where one would be none."""
    return written(*ends(row, other))


def written(low: float, high: float) -> str:
    digits = 1 if round(low, 1) and round(high, 1) else 2
    return " to ".join(re.sub(r"^(-?)0\.", r"\1.", f"{end:.{digits}f}") for end in (low, high))


@pytest.mark.parametrize(("page", "words", "row", "other"), SHOWN)
def test_a_difference_that_is_claimed_excludes_zero(page: str, words: str, row: str, other: str) -> None:
    assert words in text(page)
    assert ends(row, other)[0] > 0
    assert printed(row, other) in text(page)


@pytest.mark.parametrize(("page", "words", "row", "other"), OPEN)
def test_a_difference_that_includes_zero_is_not_claimed(page: str, words: str, row: str, other: str) -> None:
    assert words in text(page)
    low, high = ends(row, other)
    assert low < 0 < high
    assert printed(row, other) in text(page)


def test_every_interval_of_the_docs_is_one_of_these() -> None:
    """What stands in brackets belongs to a pair of rows above, or to what gains set to zero cost."""
    zeroed = interval(ROWS["bn-decay-zeroed-14"]["values"])
    assert zeroed is not None
    known = {printed(row, other) for _, _, row, other in (*SHOWN, *OPEN)}
    known.add(written(100 * zeroed[0], 100 * zeroed[1]))
    for page in ("meta.md", "conditioning.md", "random_networks.md", "bank.md", "growth.md"):
        for bracket in re.findall(r"\[(-?[\d.]+ to [^\]]+)\]", text(page)):
            for item in bracket.split("; "):
                found = re.match(r"-?[\d.]+ to -?[\d.]+", item)
                assert found is not None
                assert found[0] in known, f"{page}: {item}"


def test_the_docs_say_what_is_not_proven() -> None:
    results = load(ROOT / "results")
    barred = [name for name in results.unproven if ROWS[name]["bar"]]
    late = [name for name in barred if any("its bar was" in reason for reason in results.unproven[name])]
    assert len([name for name in late if name.startswith(("meta-", "fewshot-", "waves-"))]) == 8
    assert "The bars of eight rows here" in text("meta.md")
    hidden = {name for name in late if name.startswith(("bn-", "criteria-", "conv2-"))}
    assert len(hidden) == 4
    assert all(f"`{name}`" in text("random_networks.md") for name in hidden)
    traded = [row for row in ROWS.values() if row["experiment"] == "supsup/tradeoff"]
    assert len(traded) == 82
    assert all(len(row["seeds"]) == 1 for row in traded)
    assert sum(row["row"] in results.unproven for row in traded) == 47
    assert "of the 82 rows of the trade-off 47 were written down after their runs" in text("bank.md")
    uncommitted = {
        name.split("-")[0] for name, why in results.unproven.items() if "it ran with uncommitted code" in why
    }
    assert uncommitted == {"split", "online", "transfer"}
    said = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"The {len(read_json(ROOT / 'tests/tasks/ledger/digests.json'))} rows of before this rule" in said
    assert f"for {len(results.unproven)} of them git does not show" in said
    reached = ROWS["supsup-published-known"]["mean"]
    assert reached < 0.9491
    assert f"ten known tasks reach {100 * reached:.1f} %" in text("bank.md")


DESCRIBED = ("", "-nearest", "-mean-row", "-own-nearest")


@pytest.mark.parametrize(
    "row",
    [
        "described-film-trained",
        "described-turn-trained",
        "described-lowrank-trained",
        *(f"described-{k}{end}" for k in ("film", "turn", "lowrank", "masks") for end in DESCRIBED),
    ],
)
def test_accuracies_of_described_tasks_are_those_of_the_ledger(row: str) -> None:
    assert f"{100 * ROWS[row]['mean']:.1f} %" in text("descriptions.md")
