"""``make demo``: one frozen random network, one stream, five modulators between honest brackets, one report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.commands.draws import draws
from tasks.config.load import load
from tasks.continual.measures import matrix
from tasks.experiment import execute
from tasks.report import text_table, write
from tasks.report.read import labels
from tasks.report.read import load as load_run
from tasks.report.svg import document
from tasks.runs.files import read_json, write_atomic

# Modulators whose source is shared between tasks are shown trained jointly and in sequence: their forgetting is seen.
RUNS = (
    ("demo/supermask",),
    ("demo/bn_only",),
    ("demo/film", "run=joint", "title=FiLM hypernetwork, jointly"),
    ("demo/film", "title=FiLM hypernetwork, in sequence"),
    ("demo/low_rank_masks", "run=joint", "title=low-rank masks, jointly"),
    ("demo/low_rank_masks", "title=low-rank masks, in sequence"),
    ("demo/gate", "run=joint", "title=gate on each input, jointly"),
    ("demo/gate", "title=gate on each input, in sequence"),
    ("demo/nothing",),
    ("demo/ridge",),
    ("demo/dense",),
)
MARGIN, INFERRED, GROUP = 0.03, 0.95, 16


def demo(root: Path) -> int:
    """Run everything (or go on with it), print the table, write the report; exit status 1 if a claim does not hold."""
    folders = []
    for experiment, *options in RUNS:
        given = [
            f"experiment={experiment}",
            *(o.replace("title=", "title='") + "'" if "title=" in o else o for o in options),
        ]
        folders.append(execute(load(given), root=root, command=["python", "-m", "tasks", "train", *given]))
    results = [read_json(folder / "result.json") for folder in folders]
    print(text_table(results))
    checked = claims(results)
    print("\n".join(f"{'holds ' if held else 'FAILS '} {text}" for text, held in checked))
    notes = [text for text, _ in checked]
    page = write(folders, root / "report.html", "One frozen network, many behaviours", notes, draws())
    _picture(folders, root / "demo.svg")
    print(f"report: {page}")
    return 0 if all(held for _, held in checked) else 1


def _picture(folders: Sequence[Path], out: Path) -> None:
    """The picture of the README, ``docs/demo.svg``: mean accuracy over the tasks learnt so far."""
    runs = [load_run(folder) for folder in folders]
    (section,) = [part for part in matrix.draw(runs, labels(runs)) if part.key == "progress"]
    write_atomic(out, document(section.panels[0].svg))


def claims(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """What the demo promises, in words, and whether it holds."""
    by_title = {result["title"]: result for result in results}
    mask, ridge = by_title["supermask"], by_title["ridge readout"]
    gap = mask["value"] - ridge["value"]
    own = [r for r in results if r["role"] == "modulator" and r["trained"] == "per task"]
    worst = max(abs(r["measures"]["matrix"]["forgetting"]) for r in own)
    size = str(GROUP)
    method, found = max(mask["measures"]["inference"].items(), key=lambda item: item[1]["groups"][size])
    return [
        (
            f"the supermask is {100 * gap:.1f} points above the ridge readout (at least {100 * MARGIN:.0f})",
            gap >= MARGIN,
        ),
        (f"modulators of one task each forget exactly nothing (largest {worst})", worst == 0),
        (
            f"the network tells the task of {size} unlabelled images in {100 * found['groups'][size]:.1f} % of cases by "
            f"{method.replace('_', ' ')} (one image: {100 * found['image']:.1f} %; at least {100 * INFERRED:.0f} % for {size})",
            found["groups"][size] >= INFERRED,
        ),
    ]
