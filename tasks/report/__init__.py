"""One self-contained HTML report from finished run folders; it opens without a network."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tasks.errors import UserError, told
from tasks.report.interval import interval
from tasks.report.read import Run, labels, load
from tasks.report.sections import Draw, sections
from tasks.report.svg import styles
from tasks.report.table import columns, count, grouped, percent, text_table
from tasks.report.table import headline as shown
from tasks.runs.files import write_atomic

__all__ = ["text_table", "write"]

PHONE = 240  # points; a drawing that is wider scrolls on a phone
GROUPS = {
    "modulator": "Modulators of the frozen network",
    "bracket": "Brackets: what the numbers above lie between",
}


def write(runs: Sequence[Path], out: Path, title: str, notes: Sequence[str] = (), draws: Sequence[Draw] = ()) -> Path:
    """Write the report of these run folders to the file `out` and return `out`; equal inputs give equal bytes.

    UserError where a folder is not a finished run, or where there is none.

    Args:
        runs: folders of finished runs, in the order of the page.
        out: the HTML file; its folder is made where it is missing.
        title: of the page.
        notes: sentences under the headline.
        draws: the drawings of the measures and families at hand; nothing is imported that a run folder names.

    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    if not runs:
        raise UserError("a report needs at least one run folder; got none; finish a run first")
    loaded = [load(Path(folder)) for folder in runs]
    names = labels(loaded)
    looks = styles([run.title for run in loaded])
    here = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    here.filters["drawn"] = Markup  # only svg.py makes these strings, and it escapes what it is given
    here.filters["wide"] = lambda svg: float(svg.split('width="')[1].split("pt")[0]) > PHONE
    here.filters["shown"] = lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    with told("a report shows results as runs write them; those of these runs can't be shown", "run them again"):
        page = here.get_template("page.html.j2").render(
            title=title,
            notes=list(notes),
            headline=headline(loaded),
            data=data_used(loaded),
            columns=columns([run.result for run in loaded]),
            groups=[(GROUPS[role], members) for role, members in grouped([run.result for run in loaded])],
            runs=loaded,
            names=names,
            colours=[looks[run.title][0] for run in loaded],
            sections=sections(loaded, names, draws),
            configs=[json.dumps(run.config, indent=2, sort_keys=True, ensure_ascii=False) for run in loaded],
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, page)
    return out


def headline(runs: Sequence[Run]) -> str:
    """One or two sentences: the best modulator by the mean over its seeds, what it costs, and the brackets it lies between."""
    if len({run.result["metric"] for run in runs}) > 1:
        return ""
    by_title: dict[str, list[Run]] = {}
    for run in runs:
        by_title.setdefault(run.title, []).append(run)
    methods = list(by_title.values())
    sign = -1 if runs[0].result["better"] == "higher" else 1
    best = {
        role: sorted(members, key=lambda i: sign * _mean(methods[i]))
        for role, members in grouped([method[0].result for method in methods])
    }
    sentences = []
    if first := best.get("modulator"):
        sentences.append(_sentence(methods[first[0]]))
    if ends := best.get("bracket"):
        said = [f"{_said(methods[i])} ({methods[i][0].title})" for i in dict.fromkeys((ends[-1], ends[0]))]
        sentences.append("Brackets: " + " to ".join(said) + ".")
    return " ".join(sentences)


def _sentence(method: Sequence[Run]) -> str:
    result = method[0].result
    data, costs = result["data"], result["costs"]
    tasks, stream = data.get("tasks", 1), data.get("stream", data.get("name"))
    over = f" over {tasks} tasks of {stream}" if tasks > 1 else f" on {stream}" if stream else ""
    lower = " (lower is better)" if result["better"] == "lower" else ""
    parts = [f"{method[0].title}: {_said(method)}{lower}{over}, {_seeds(method)}"]
    if costs is not None:
        parts.append(
            f"{count(costs['parameters_per_task'])} parameters and {count(costs['bytes_per_task'])} bytes per task"
        )
    every = [run.measure("matrix").get("forgetting") for run in method]
    lost = [value for value in every if value is not None]
    if len(lost) == len(every):
        parts.append(f"forgets {percent(fmean(lost))} %")
    return "; ".join(parts) + "."


def _seeds(method: Sequence[Run]) -> str:
    """Behind how many seeds a number stands: the interval of their mean and each of them, or that there is one."""
    each = [run.value for run in method]
    if (found := interval(each)) is None:
        return "one seed, so without an interval"
    metric = method[0].result["metric"]
    low, high = (shown(value, metric) for value in found)
    return (
        f"mean of {len(each)} seeds (95 % interval {low} to {high}; each {', '.join(shown(v, metric) for v in each)})"
    )


def _said(method: Sequence[Run]) -> str:
    metric, number = method[0].result["metric"], shown(_mean(method), method[0].result["metric"])
    if metric == "accuracy":
        return f"{number} % accuracy"
    return f"{metric} {number}"


def _mean(method: Sequence[Run]) -> float:
    return fmean(run.value for run in method)


def data_used(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each distinct data set once: name, first digits of its SHA-256, and in plain words what it stands in for."""
    seen: dict[str, dict[str, Any]] = {}
    for run in runs:
        data = run.result["data"]
        stands_in = data.get("substitute")
        why = "" if not stands_in else str(stands_in) if isinstance(stands_in, str) else "not the published data"
        said = {"name": data["name"] or "drawn from the seed", "sha256": data.get("sha256") or "", "substitute": why}
        seen[json.dumps(said)] = said  # what else a run says of its data, such as its seed, does not make it another
    return list(seen.values())
