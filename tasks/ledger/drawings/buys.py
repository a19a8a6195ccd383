"""What a gate, an order of differentiation and a reset buy in sequential learning, drawn from the ledger."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.svg import COLOURS, INK, document, render

# (row without its length, label); from nothing learned to all of ANML.
ARMS = (
    ("random", "random features"),
    ("pretrain", "pretraining"),
    ("sequential-kept", "sequential, no row reset"),
    ("sequential", "sequential, a row reset each time"),
    ("frozen-gate", "frozen random network, gate learned"),
    ("oml", "OML: head alone fast"),
    ("anml-head", "a gate, head alone fast"),
    ("gate-one", "no gate"),
    ("gate-static", "gate: one learned vector"),
    ("gate-random", "gate: fixed random network"),
    ("gate-binary", "gate: binary masks of the image"),
    ("anml-first", "gate of the image, order 1"),
    ("anml", "gate of the image, order 2 (ANML)"),
)
HEADS = {"SGD": "600", "Adam": "adam-600", "SGD, shuffled": "iid-600", "ridge": "ridge-600", "class means": "means-600"}
HEADS |= {"streaming LDA": "slda-600"}
FEATURES = {
    "anml": "ANML",
    "oml": "OML",
    "pretrain": "pretraining",
    "sequential-kept": "sequential, no reset",
    "random": "random",
}

Rows = Mapping[str, Mapping[str, Any]]


def shows(row: str) -> bool:
    """Whether a row is in this picture."""
    arms = {f"meta-{name}-{length}" for name, _ in ARMS for length in (100, 600)}
    return row in arms | {f"meta-{name}-{end}" for name in FEATURES for end in HEADS.values()}


def buys(ledger: Sequence[Mapping[str, Any]], key: str = "buys") -> str | None:
    """An SVG document of two panels: every arm by SGD after 100 and 600 classes, every head over some features; None without rows."""
    rows = {str(row["row"]): row for row in ledger}
    arms = [(name, label) for name, label in ARMS if {f"meta-{name}-100", f"meta-{name}-600"} <= rows.keys()]
    if len(arms) < 2:
        return None

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _arms(left, rows, arms)
        _heads(right, rows)

    label = "Omniglot, one image at a time: accuracy of arms after 100 and 600 characters, and of heads over the same features"
    return document(render(key, label, (8.6, 4.2), draw))


def _arms(ax: Any, rows: Rows, arms: Sequence[tuple[str, str]]) -> None:
    places = list(range(len(arms)))[::-1]
    top = 1.25 * max(rows[f"meta-{name}-{length}"]["mean"] for name, _ in arms for length in (100, 600))
    for shift, length, look in ((0.2, 100, 0), (-0.2, 600, 1)):
        found = [rows[f"meta-{name}-{length}"] for name, _ in arms]
        heights = [place + shift for place in places]
        spreads = [row["spread"] or 0.0 for row in found]
        means = [row["mean"] for row in found]
        ax.barh(heights, means, xerr=spreads, height=0.38, color=COLOURS[look], label=f"{length} characters")
        for height, row, spread in zip(heights, found, spreads, strict=True):
            ax.text(
                row["mean"] + spread + 0.015 * top, height, f"{row['mean']:.3f}", va="center", fontsize=6.5, color=INK
            )
    ax.set_yticks(places, [label for _, label in arms])
    ax.tick_params(labelsize=7.5)
    ax.set_xlabel("test accuracy, head by SGD", color=INK)
    ax.set_xlim(0, top)
    ax.legend(fontsize=7.5, frameon=False, loc="upper right")


def _heads(ax: Any, rows: Rows) -> None:
    for look, (name, label) in enumerate(FEATURES.items()):
        some = {head: rows[f"meta-{name}-{end}"] for head, end in HEADS.items() if f"meta-{name}-{end}" in rows}
        places = [list(HEADS).index(head) for head in some]
        means, spreads = [row["mean"] for row in some.values()], [row["spread"] or 0.0 for row in some.values()]
        ax.errorbar(
            places, means, yerr=spreads, marker="o", markersize=4, linestyle="", color=COLOURS[look], label=label
        )
    ax.set_xticks(range(len(HEADS)), list(HEADS), rotation=35, ha="right", fontsize=7.5)
    ax.set_ylabel("test accuracy, 600 characters", color=INK)
    ax.set_ylim(0, None)
    ax.grid(color="#e6e8eb", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(title="features of", title_fontsize=7.5, alignment="left", fontsize=7.5, frameon=False, loc="upper left")
