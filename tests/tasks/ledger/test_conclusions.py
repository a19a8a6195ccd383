"""What the docs conclude is what the ledger says."""

from pathlib import Path

import pytest

from tasks.ledger.drawings import buys
from tasks.ledger.store import load_ledger

ROOT = Path(__file__).parents[3]
ROWS = {row["row"]: row for row in load_ledger(ROOT / "results")}
MEAN = {name: row["mean"] for name, row in ROWS.items()}


def cells(page: str, label: str, count: int) -> list[str]:
    """The ``count`` cells behind a label in a table of a page under docs/."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {label} |") and line.count("|") == count + 2]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def mean(kind: str, arm: str) -> float:
    return float(MEAN[f"conditioning-{kind}-{arm}"])


def test_few_numbers_gain_from_the_input_more_than_from_the_task() -> None:
    for kind in ("gate", "film"):
        told = max(mean(kind, "task"), mean(kind, "table-task"))
        assert mean(kind, "input") >= told + 0.09
        assert mean(kind, "random") > told
        assert max(mean(kind, "inferred"), mean(kind, "table-inferred")) < told - 0.1


def test_masks_gain_nothing() -> None:
    means = [mean("masks", arm) for arm in ("constant", "task", "input", "random")]
    assert max(means) - min(means) < 0.01


def test_a_constant_gate_is_below_the_classifier_alone() -> None:
    alone = MEAN["conditioning-none"]
    assert max(mean("gate", "constant"), mean("gate", "table-constant")) < alone
    assert mean("gate", "task") < mean("gate", "table-task")


def test_routing_is_as_good_as_being_told() -> None:
    assert abs(MEAN["routing-mixture"] - MEAN["routing-bank-known"]) < 0.001
    assert MEAN["routing-bank-inferred"] < MEAN["routing-mixture"] - 0.02


def test_gentle_training_leaves_a_signature_and_tuned_training_does_not() -> None:
    gentle, tuned = MEAN["supsup-250-one-shot-task"], MEAN["supsup-250-accuracy-one-shot"]
    assert gentle > 0.99
    assert tuned < 0.15
    assert MEAN["supsup-250-accuracy-known"] > MEAN["supsup-250-known"] + 0.015
    assert MEAN["supsup-250-accuracy-brute"] > MEAN["supsup-250-one-shot"] + 0.015


def test_a_pixel_signature_finds_every_permutation() -> None:
    assert MEAN["supsup-250-signature"] == MEAN["supsup-2500-signature"] == 1


def test_one_recipe_of_the_trade_off_holds_both_and_the_lead_says_which_do_not() -> None:
    assert MEAN["tradeoff-rmsprop-0.0006-known"] >= 0.96
    assert MEAN["tradeoff-rmsprop-0.0006-one-shot"] >= 0.99
    assert MEAN["tradeoff-sgd-1-one-shot"] < 0.5 < MEAN["tradeoff-sgd-1-margin"]
    assert MEAN["tradeoff-sgd-1-lead"] < 0 < MEAN["tradeoff-rmsprop-0.0001-lead"]
    assert MEAN["tradeoff-rmsprop-0.0006-flipped"] > MEAN["tradeoff-sgd-1-flipped"]
    assert MEAN["tradeoff-sgd-1-sure-other"] > 2.5 * MEAN["tradeoff-rmsprop-0.0001-sure-other"]


def test_a_memory_of_gates_recalls_every_task_with_less_energy() -> None:
    assert MEAN["hopfield-failed"] == pytest.approx(1.2)
    assert MEAN["hopfield-remedy-failed"] == 0


def test_the_verified_rule_allocates_a_mask_a_task() -> None:
    assert MEAN["online-verified-masks"] == 50
    assert MEAN["online-verified-mistakes"] == 0


def test_the_page_on_banks_quotes_the_ledger() -> None:
    page = " ".join((ROOT / "docs/bank.md").read_text().split())
    for row, words in (
        ("supsup-250-one-shot-task", "the task of {} % of single images"),
        ("supsup-250-one-shot", "both right for {} %"),
        ("supsup-250-accuracy-known", "masks are better ({} % where"),
        ("supsup-250-accuracy-brute", "and {} % of task and class"),
        ("rotated-36-ceiling", "trained on all 36 tasks at once, finds {} %"),
        ("rotated-36-task-subspaces-16", "class subspaces find {} % of groups"),
        ("hopfield-remedy", "25 of 25 recalls are right, {} % of classes"),
        ("hopfield-remedy-disjoint-snapped", "did not adapt to, {} %"),
        ("baseline-separate", "a network per task {} %"),
        ("supsup-accuracy-known", "masks {} % (accuracy recipe)"),
        ("supsup-inference-known", "or {} % (inference recipe)"),
        ("baseline-psp", "parameter superposition {} %"),
        ("baseline-ewc", "task not needed, {} %"),
        ("baseline-ridge", "readout of the random network {} %"),
        ("baseline-film-heads", "with a classifier per task {} %"),
        ("baseline-bn-only-heads", "with a classifier per task {} %"),
        ("baseline-batch-ensemble", "BatchEnsemble {} %"),
        ("baseline-bn-only-bank", "norms alone {} %"),
        ("baseline-dense", "fine-tuning in sequence {} %"),
        ("baseline-film-bank", "FiLM alone {} %"),
        ("baseline-50-psp", "superposition falls to {} %"),
        ("baseline-50-ewc", "EWC to {} %"),
        ("baseline-50-dense", "fine-tuning to {} %"),
    ):
        assert words.format(round(100 * MEAN[row], 1)) in page, row


def test_the_docs_say_so() -> None:
    page = " ".join((ROOT / "docs/conditioning.md").read_text().split())
    assert "the more it gains from reading the input, more than from being told the task" in page


COLUMNS = {
    "SplitMNIST, 5 tasks": ("split-routed", "one-shot", "entropy", "margin", "task", "lda"),
    "RotatedMNIST, 36 tasks": ("rotated-36", "one-shot", "task-entropy", "task-margin", "task-subspaces", "task-lda"),
    "Omniglot, 20 alphabets": ("alphabets", "one-shot", "entropy", "calibrated-margin", "subspaces", "lda"),
    "split CIFAR-10, 5 tasks": ("split-cifar10", "one-shot", "entropy", "calibrated-margin", "subspaces", "lda"),
}


@pytest.mark.parametrize("stream", COLUMNS)
def test_the_table_of_routers_and_objectives_is_the_ledgers(stream: str) -> None:
    prefix, *columns = COLUMNS[stream]
    expected = [f"{100 * MEAN[f'{prefix}-{column}']:.1f}" for column in columns]
    assert cells("bank.md", stream, len(columns)) == expected
    # On streams that share their pixels statistics of the images find more tasks than any objective.
    assert max(map(float, expected[3:])) > max(map(float, expected[:3]))


CELLS = {
    "masks, a table (first layer)": "masks-table",
    "masks, a hypernetwork of the task": "masks-hypernet",
    "FiLM in three places and a classifier, a table": "film-table",
    "FiLM, a hypernetwork of the task": "film-hypernet",
    "low-rank deltas, a table": "lora-table",
    "FiLM of the input": "film-input",
    "gates of the input": "gate-input",
    "low-rank deltas of the input": "lora-input",
}


def untold(stream: str, cell: str) -> float:
    return MEAN[f"matrix-{stream}-{cell}" + ("" if cell.endswith("input") else "-inferred")]


@pytest.mark.parametrize("name", CELLS)
def test_the_matrix_of_kinds_and_sources_is_the_ledgers(name: str) -> None:
    cell, expected = CELLS[name], []
    for stream in ("permuted", "split"):
        told = "\N{EM DASH}" if cell.endswith("input") else f"{100 * MEAN[f'matrix-{stream}-{cell}']:.1f}"
        expected += [told, f"{100 * untold(stream, cell):.1f}"]
    assert cells("bank.md", name, len(expected)) == expected


@pytest.mark.parametrize("stream", ["permuted", "split"])
def test_masks_win_where_the_task_is_told_and_the_input_where_it_is_not(stream: str) -> None:
    told = {cell: MEAN[f"matrix-{stream}-{cell}"] for cell in CELLS.values() if not cell.endswith("input")}
    assert max(told, key=lambda cell: told[cell]) == "masks-table"
    every = {cell: untold(stream, cell) for cell in CELLS.values()}
    assert max(every, key=lambda cell: every[cell]).endswith("input")


# ---- docs/random_networks.md -------------------------------------------------------------------------------------------

HIDDEN = (ROOT / "docs/random_networks.md").read_text()
ARMS = {
    "full fine-tuning": "finetune",
    "masks, statistics of the task": "masks",
    "masks, frozen statistics": "masks-frozen",
    "norms alone, statistics of the task": "bn-only",
    "FiLM behind the norms, frozen statistics": "film",
    "linear probe": "probe",
}


@pytest.mark.parametrize("name", ARMS)
def test_the_table_of_transfers_is_the_ledgers(name: str) -> None:
    means = [f"{100 * MEAN[f'piggyback-{transfer}-{ARMS[name]}']:.1f}" for transfer in ("kmnist", "turned")]
    size = f"{MEAN[f'piggyback-bytes-{ARMS[name]}']:,.0f}"
    assert cells("random_networks.md", name, 3) == [*means, size]


def test_the_table_of_norms_is_the_ledgers() -> None:
    rows = {
        "depth 8 / 14 / 20 / 32, Kaiming normal": ("only-8", "only-14", "only-20", "only-32"),
        "as many random weights elsewhere, depth 8 / 14": ("random-8", "random-14"),
        "depth 14, signed constant / orthogonal": ("constant-14", "orthogonal-14"),
        "depth 14, the output layer trained too": ("heads-14",),
        "as many random weights and the output layer": ("random-heads-14",),
        "depth 14, weight decay .01": ("decay-14",),
    }
    for name, parts in rows.items():
        means = " / ".join(f"{100 * MEAN[f'bn-{part}']:.1f}" for part in parts)
        assert f"| {name} | {means} |" in HIDDEN


def test_choosing_is_worth_much_and_training_more() -> None:
    best = MEAN["criteria-large-final-same-sign-constant"]
    learned = [MEAN[f"supermask-{name}"] for name in ("edge-popup", "threshold", "bernoulli")]
    assert 0.9 < best < min(learned)
    assert max(learned) < MEAN["supermask-dense-small"] < MEAN["supermask-dense"]
    assert MEAN["criteria-final-signs"] < best
    for value in ("edge-popup", "threshold", "15k-bernoulli", "dense-small"):
        assert f"{MEAN[f'supermask-{value}']:.3f}".lstrip("0") in HIDDEN
    assert MEAN["supermask-edge-popup-10-scaled"] > MEAN["supermask-edge-popup-10"] + 0.04


def test_masks_from_other_starts_share_little_more_than_chance() -> None:
    assert 0 < MEAN["supermask-starts-mean"] - MEAN["supermask-starts-chance"] < 0.05


def test_decay_switches_gains_off_that_nothing_needs() -> None:
    assert MEAN["bn-decay-near-zero-14"] > 5 * MEAN["bn-near-zero-14"]
    assert abs(MEAN["bn-decay-zeroed-14"]) < 0.005 < 0.5 < MEAN["bn-decay-random-14"]


# ---- docs/meta.md ------------------------------------------------------------------------------------------------------

SPREAD = {name: row["spread"] for name, row in ROWS.items()}
FEW = {
    "waves-cavia-2": "sinusoids, CAVIA, 2 context inputs",
    "waves-cavia-3": "sinusoids, CAVIA, 3 context inputs",
    "waves-cavia-5": "sinusoids, CAVIA, 5 context inputs",
    "waves-maml": "sinusoids, MAML",
    "fewshot-maml": "5-way 1-shot, MAML",
    "fewshot-cavia": "5-way 1-shot, CAVIA",
    "fewshot-off-random": "5-way 5-shot, class means over a frozen random network",
    "fewshot-film-random": "5-way 5-shot, the same with FiLM from the support set",
    "fewshot-off-trained": "5-way 5-shot, class means over a frozen trained network",
    "fewshot-film-trained": "5-way 5-shot, that one with FiLM from the support set",
}
TABLED = {**buys.FEATURES, "gate-one": "no gate", "sequential": "sequential, row reset"}


@pytest.mark.parametrize(("arm", "label"), [arm for arm in buys.ARMS if f"meta-{arm[0]}-600" in MEAN])
def test_the_table_of_arms_is_the_ledgers(arm: str, label: str) -> None:
    rows = [f"meta-{arm}-{count}" for count in (100, 600)]
    assert cells("meta.md", label, 2) == [f"{100 * MEAN[row]:.1f} ± {100 * SPREAD[row]:.1f}" for row in rows]


@pytest.mark.parametrize(("features", "label"), TABLED.items())
def test_the_table_of_heads_is_the_ledgers(features: str, label: str) -> None:
    expected = [MEAN.get(f"meta-{features}-{end}") for end in buys.HEADS.values()]
    assert cells("meta.md", label, 6) == [
        "\N{EM DASH}" if value is None else f"{100 * value:.1f}" for value in expected
    ]


@pytest.mark.parametrize(("row", "label"), [pair for pair in FEW.items() if pair[0] in MEAN])
def test_the_table_of_few_examples_is_the_ledgers(row: str, label: str) -> None:
    mean, spread = MEAN[row], SPREAD[row]
    wanted = f"{100 * mean:.1f} ± {100 * spread:.1f}" if "shot" in label else f"{mean:.3f} ± {spread:.3f}"
    assert cells("meta.md", label, 1) == [wanted]


def test_film_from_a_support_set_repairs_more_than_it_polishes() -> None:
    left = {k: (1 - MEAN[f"fewshot-film-{k}"]) / (1 - MEAN[f"fewshot-off-{k}"]) for k in ("random", "trained")}
    assert left["random"] < 0.5
    assert 0.175 < 1 - left["trained"] < 0.185


def test_a_gate_of_the_image_buys_more_than_any_other_gate() -> None:
    for count in (100, 600):
        gated = MEAN[f"meta-anml-{count}"]
        plain = MEAN[f"meta-gate-one-{count}"]
        assert gated > 1.3 * plain
        assert gated - plain > 2 * (MEAN[f"meta-gate-static-{count}"] - plain)
        assert gated - plain > 4 * (MEAN[f"meta-gate-random-{count}"] - plain) > 0
        assert gated > MEAN[f"meta-frozen-gate-{count}"] > MEAN[f"meta-gate-one-{count}"] - 0.01
        assert abs(gated - MEAN[f"meta-anml-first-{count}"]) < 0.02
        assert abs(gated - MEAN[f"meta-anml-head-{count}"]) < 0.02


def test_a_gate_buys_nothing_for_other_heads() -> None:
    assert abs(MEAN["meta-anml-adam-600"] - MEAN["meta-oml-adam-600"]) < 0.02
    for other in ("oml", "gate-one"):
        for head in ("ridge", "means", "slda"):
            assert MEAN[f"meta-{other}-{head}-600"] > MEAN[f"meta-anml-{head}-600"]
    assert abs(MEAN["meta-gate-one-iid-600"] - MEAN["meta-anml-iid-600"]) < 0.02


def test_resetting_rows_costs_features() -> None:
    best = MEAN["meta-sequential-kept-slda-600"]
    assert best > MEAN["meta-sequential-slda-600"] + 0.1
    assert all(best > MEAN[f"meta-{features}-slda-600"] for features in TABLED if features != "sequential-kept")


def test_heads_that_are_computed_forget_nothing() -> None:
    for features in TABLED:
        learned = max(MEAN[f"meta-{features}-600"], MEAN.get(f"meta-{features}-adam-600", 0.0))
        assert min(MEAN[f"meta-{features}-{head}-600"] for head in ("ridge", "means", "slda")) > learned + 0.05
