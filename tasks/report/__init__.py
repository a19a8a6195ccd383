"""One self-contained HTML report from finished run folders; it opens without a network."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.report.read import Run, labels, load
from tasks.report.sections import sections
from tasks.report.svg import styles
from tasks.report.table import COLUMNS, count, grouped, percent, text_table
from tasks.runs.files import write_atomic

__all__ = ["text_table", "write"]

GROUPS = {
    "modulator": "Modulators of the frozen network",
    "bracket": "Brackets: what the numbers above lie between",
}


def write(runs: Sequence[Path], out: Path, title: str, notes: list[str]) -> Path:
    """Write the report of these run folders to the file `out` and return `out`; equal inputs give equal bytes.

    UserError where a folder is not a finished run, or where there is none.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    if not runs:
        raise UserError("a report needs at least one run folder; got none; finish a run first")
    loaded = [load(Path(folder)) for folder in runs]
    names = labels(loaded)
    looks = styles([str(run.result["method"]) for run in loaded])
    here = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    here.filters["drawn"] = Markup  # only svg.py makes these strings, and it escapes what it is given
    here.filters["shown"] = lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    page = here.get_template("page.html.j2").render(
        title=title,
        notes=notes,
        headline=headline(loaded, names),
        data=data_used(loaded),
        columns=COLUMNS,
        groups=[(GROUPS[role], members) for role, members in grouped([run.result for run in loaded])],
        runs=loaded,
        names=names,
        colours=[looks[str(run.result["method"])][0] for run in loaded],
        sections=sections(loaded, names),
        configs=[json.dumps(run.config, indent=2, sort_keys=True, ensure_ascii=False) for run in loaded],
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, page)
    return out


def headline(runs: Sequence[Run], names: Sequence[str]) -> str:
    """One or two sentences: the best modulator, what it costs, and the brackets it lies between."""
    best = {
        role: sorted(members, key=lambda i: -runs[i].result["accuracy"])
        for role, members in grouped([run.result for run in runs])
    }
    sentences = []
    if first := best.get("modulator"):
        result = runs[first[0]].result
        tasks = max((len(row) for row in result["matrix"] or []), default=0)
        over = f"over {tasks} tasks of {result['stream']}" if tasks > 1 else f"on {result['stream']}"
        cost = f"{count(result['parameters_per_task'])} parameters and {count(result['bytes_per_task'])} bytes per task"
        sentence = f"{names[first[0]]} reaches {percent(result['accuracy'])} % {over} with {cost}"
        if result["forgetting"] is not None:
            sentence += f" and forgets {percent(result['forgetting'])} %"
        sentences.append(sentence + ".")
    if ends := best.get("bracket"):
        said = [f"{percent(runs[i].result['accuracy'])} % ({names[i]})" for i in dict.fromkeys((ends[-1], ends[0]))]
        sentences.append("Brackets: " + " to ".join(said) + ".")
    return " ".join(sentences)


def data_used(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each distinct data set once: name, first digits of its SHA-256, and in plain words what it stands in for."""
    seen: dict[str, dict[str, Any]] = {}
    for run in runs:
        data = run.result["data"]
        stands_in = data.get("substitute")
        why = "" if not stands_in else str(stands_in) if isinstance(stands_in, str) else "not the published data"
        key = json.dumps(data, sort_keys=True)
        seen[key] = {"name": data["name"], "sha256": data.get("sha256") or "", "substitute": why}
    return list(seen.values())
