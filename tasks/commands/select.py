"""Hyper-parameters chosen on held-out training data and calibration seeds, never on test data."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tasks.config.load import load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.ledger.metric import number
from tasks.ledger.selection import edges, file
from tasks.runs.environment import code
from tasks.runs.files import read_json, write_json


def select(overrides: Sequence[str], *, root: Path, results: Path) -> int:
    """Run the experiment's grid (``select`` in its config), print the table and write the choice down.

    Every run holds ``held_out`` training images of each task back and is measured on those. Finished runs are kept, so
    the same command goes on where it stopped.

    Args:
        overrides: as on the command line, ``experiment=NAME`` among them.
        root: the folder of the runs.
        results: the folder that the choice is written into.

    """
    config = load(overrides)
    grid = config["select"]
    if not grid["grid"]:
        raise UserError(f"select needs a grid; {config['experiment']} has none; write select.grid into its config")
    rows: list[dict[str, Any]] = []
    better = "higher"
    for point in points(grid["grid"]):
        given = [*overrides, *grid["overrides"], *(f"{key}={value}" for key, value in point.items())]
        found = [_value([*given, f"seed={seed}"], grid, root) for seed in grid["seeds"]]
        values, better = [value for value, _ in found], found[0][1]
        rows.append({"point": point, "values": values, "mean": fmean(values)})
        print(
            "  ".join(f"{key}={value}" for key, value in point.items()),
            f" {grid['metric']} {rows[-1]['mean']:.4f}",
            flush=True,
        )
    best = (max if better == "higher" else min)(rows, key=lambda row: float(row["mean"]))
    path = file(results, config["experiment"])
    chosen: dict[str, Any] = {key: grid[key] for key in ("metric", "seeds", "held_out", "overrides")} | {
        "choice": best["point"],
        "edge": edges([row["point"] for row in rows], best["point"]),
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"experiment": config["experiment"], "commit": code().commit, **chosen})
    if at := [f"{key}={chosen['choice'][key]}" for key, stands in chosen["edge"].items() if stands]:
        print(f"warning: at the edge of its grid: {', '.join(at)}; a better value may lie outside; widen select.grid")
    print(f"chosen: {best['point']} ({path})")
    return 0


def points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of a grid's values: one dict per point, from a key to its value."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _value(overrides: Sequence[str], grid: Mapping[str, Any], root: Path) -> tuple[float, str]:
    """The number that is chosen by, and which way it is better: the headline's way, or higher."""
    folder = execute(
        load(overrides), root=root, command=["python", "-m", "tasks", "select", *overrides], held=grid["held_out"]
    )
    try:
        result = read_json(folder / "result.json")
        return number(result, grid["metric"]), result["better"] if grid["metric"] == result["metric"] else "higher"
    except UserError as error:
        raise UserError(f"select.metric: {error}") from error
