"""The report, from fake run folders: what stands in it, that it stands alone, and that it is always the same."""

import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tasks.commands.draws import draws
from tasks.report import write as write_page
from tasks.report.table import columns, text_table

T = 5
METHODS = (
    ("Supermask, edge-popup", "supermask", "modulator", "per task", 0.9731, 0.0),
    ("FiLM from a hypernetwork", "film", "modulator", "in sequence", 0.9412, 0.0213),
    ("BatchNorm only", "batchnorm", "modulator", "per task", 0.91, None),
    ("Fine-tuning <script>alert(1)</script> & $x_1$", "finetune", "bracket", "in sequence", 0.4127, 0.5218),
    ("Joint training", "joint", "bracket", "jointly", 0.9866, None),
)


def make_run(folder: Path, index: int, **changes: Any) -> Path:
    draw = random.Random(index)
    title, method, role, trained, accuracy, forgetting = METHODS[index]
    drop = forgetting or 0.0
    matrix = [
        [max(0.0, accuracy - drop * (i - j) / 2 + draw.gauss(0, 0.006)) if j <= i else None for j in range(T)]
        for i in range(T)
    ]
    measures: dict[str, Any] = {
        "matrix": {
            "matrix": [[*matrix[-1][:-1], accuracy]] if trained == "jointly" else matrix,
            "forgetting": forgetting,
        }
    }
    result: dict[str, Any] = {
        "title": title,
        "metric": "accuracy",
        "value": accuracy,
        "better": "higher",
        "role": role,
        "trained": trained,
        "costs": {
            "parameters_per_task": 266_200 // (index + 1),
            "bytes_per_task": 33_275 // (index + 1),
            "parameters_shared": 0 if index else 266_200,
            "bytes_with_shared": None,
        },
        "measures": measures,
        "seconds": 41.25 + index,
        "data": {
            "name": "digits-8x8",
            "sha256": "ab" * 32,
            "substitute": "stands in for MNIST, which was out of reach",
            "stream": "permuted digits",
            "tasks": T,
        },
    }
    if method == "supermask":
        overlap = [[1.0 if i == j else 0.33 + draw.gauss(0, 0.02) for j in range(T)] for i in range(T)]
        pictures = [[[draw.random() ** 2 for _ in range(28)] for _ in range(28)] for _ in range(T)]
        measures["masks"] = {"masks": pictures, "overlap": overlap}
        confusion = [[9.0 * T if i == j else 1.0 for j in range(T)] for i in range(T)]
        one = {"image": 0.8712, "groups": {"16": 0.9941}, "confusion": confusion}
        # So few images that there was no group of them.
        measures["inference"] = {"one-shot gradient": one, "lowest entropy": {**one, "image": 0.9, "groups": {}}}
    if method == "film":
        gates = [[draw.random() for _ in range(64)] for _ in range(T)]
        by_class = [[draw.random() for _ in range(64)] for _ in range(2)] + [[None] * 64]
        measures["gates"] = {"by_task": gates, "by_class": by_class}
        measures["routing"] = {"weights": [[0.25, 0.75]] * T, "experts": ["letters", "digits <b>"]}
    steps = range(0, 400, 4)
    lines = [
        {
            "step": task * 400 + step,
            "task": None if trained == "jointly" else task,
            "phase": "train",
            "loss": 2.3 * 0.99**step,
            "accuracy": accuracy * (1 - 0.9 * 0.985**step) + draw.gauss(0, 0.01),
            "clock": {"seconds": 0.1 * step},
        }
        for task in range(T)
        for step in steps
    ]
    folder.mkdir(parents=True)
    config = {"seed": 3 + index, "data": {"order_seed": 11}, "method": method, "optimizer": {"lr": 0.1}}
    environment = {
        "command": f"python -m tasks.continual.sequence method={method} stream=permuted",
        "commit": "0123456789abcdef",
    }
    environment |= {"versions": {"torch": "2.15", "numpy": "2.3"}, "machine": {"cores": 2, "device": "cpu"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    measures |= changes.pop("measures", {})
    (folder / "result.json").write_text(json.dumps(result | changes))
    return folder


def write(runs: list[Path], out: Path, title: str, notes: list[str]) -> Path:
    """A page with every drawing that there is."""
    return write_page(runs, out, title, notes, draws())


class Page(HTMLParser):
    """What the tests ask of a page: tags with attributes, ids and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    return [make_run(root / f"run-{i}", i) for i in range(len(METHODS))]


@pytest.fixture(scope="module")
def text(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("report") / "new" / "report.html"
    assert write(runs, out, "Permuted digits <script>", ["A note & more."]) == out
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def results(runs: list[Path]) -> list[dict[str, Any]]:
    return [json.loads((run / "result.json").read_text()) for run in runs]


def test_the_page_stands_alone_and_is_small(text: str, page: Page) -> None:
    assert "://" not in text
    assert not page.every("script")
    assert not page.every("link")
    for _, attributes in page.tags:
        for key in ("src", "href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:"))
    assert len(text.encode()) < 1_500_000


def test_ids_are_unique_and_every_reference_is_met(text: str, page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    wanted = {part.split(")")[0].split('"')[0] for mark in ("url(#", 'href="#') for part in text.split(mark)[1:]}
    assert wanted
    assert wanted <= set(ids)


def test_every_drawing_can_be_heard_and_every_figure_has_a_caption(page: Page) -> None:
    drawings = page.every("svg")
    assert len(drawings) > 15
    assert all(d["role"] == "img" and d["aria-label"] for d in drawings)
    assert len(page.every("figure")) == len(page.every("figcaption")) == 8
    assert all(h.get("scope") for h in page.every("th"))
    wide = [d for d in page.every("div") if d.get("class") == "wide"]
    assert len(wide) > 3  # the table, and what is wider than a phone: named, and scrolled by key too
    assert all(d["tabindex"] == "0" and d["role"] == "region" and d["aria-label"] for d in wide)


def test_the_table_says_what_the_runs_say(runs: list[Path], page: Page) -> None:
    found, said = results(runs), " ".join(page.words)
    shown = columns(found)
    assert [column.heading for column in shown][:2] == ["accuracy, %", "forgetting, %"]
    for result in found:
        for column in shown:
            assert column.of(result) is None or column.show(column.of(result)) in said
    wanted = ("97.31", "266,200", "41.2", "33,275", "87.12 % from one image", "99.41 % from 16")
    assert all(words in said for words in wanted)


def test_gates_are_shown_by_task_and_by_class_and_routes_by_expert(text: str, page: Page) -> None:
    labels = [str(drawing["aria-label"]) for drawing in page.every("svg")]
    film = "FiLM from a hypernetwork"
    for wanted in (
        f"Gate activity of {film}, by task",
        f"Gate activity by class of {film}, by class",
        f"Routing weight of {film}",
    ):
        assert wanted in labels
    assert sum("Colour scale of gate" in label for label in labels) == 1
    assert {"h-gates", "h-routing"} <= {str(heading.get("id")) for heading in page.every("h2")}
    assert "Experts from left to right: letters, digits <b>." in "".join(page.words)
    assert "digits <b>" not in text


def test_headline_data_and_reproducibility_are_said(page: Page) -> None:
    said = " ".join(page.words)
    assert "Supermask, edge-popup: 97.31 % accuracy over 5 tasks of permuted digits" in said
    assert "Brackets: 41.27 % accuracy (Fine-tuning" in said
    assert "digits-8x8 is a substitute: stands in for MNIST" in said
    for wanted in (
        "0123456789abcdef",
        "python -m tasks.continual.sequence method=film",
        "order_seed 11",
        '"lr": 0.1',
        "A note & more.",
    ):
        assert wanted in said


def test_a_title_is_never_markup(text: str) -> None:
    assert "<script" not in text
    assert "Permuted digits &lt;script&gt;" in text
    assert "alert(1)&lt;/script&gt; &amp; $x_1$" in text


def test_written_twice_the_bytes_are_equal(runs: list[Path], text: str, tmp_path: Path) -> None:
    again = write(runs, tmp_path / "again.html", "Permuted digits <script>", ["A note & more."])
    assert again.read_text(encoding="utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["again.html"]  # no half-written file is left


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "plain", 2, measures={"matrix": {}}, data={"name": "digits", "sha256": None, "substitute": None}
    )
    (run / "metrics.jsonl").write_text("")
    page = Page(write([run], tmp_path / "r.html", "Plain", []).read_text())
    assert [h["id"] for h in page.every("h2")] == ["h-results", "h-again"]
    assert not page.every("svg")
    assert "substitute" not in " ".join(w for w in page.words if "{" not in w)


def test_unfinished_runs_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(match: str, runs: list[Path]) -> None:
        with pytest.raises(ValueError, match=match) as error:
            write(runs, tmp_path / "r.html", "x", [])
        assert "\n" not in str(error.value)

    refused("at least one run", [])
    run = make_run(tmp_path / "a", 0, role="king")
    refused("role must be one of", [run])
    (run / "result.json").write_text('{"title": "x"}')
    refused("must say metric, value", [run])
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    refused(r"metrics.jsonl:2", [run])
    (run / "metrics.jsonl").unlink()
    refused("has no metrics.jsonl", [run])


def test_runs_of_one_title_are_told_apart_by_seed_and_headlined_by_their_mean(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(i), i, title="Twin", role="modulator") for i in range(2)]
    said = " ".join(Page(write(runs, tmp_path / "r.html", "Twins", []).read_text()).words)
    assert all(name in said for name in ("Twin, seed 3", "Twin, seed 4"))
    # The mean of .9731 and .9412, and 12.706 standard errors on both sides of it.
    mean, half = (0.9731 + 0.9412) / 2, 12.706 * (0.9731 - 0.9412) / 2
    shown = f"95 % interval {100 * (mean - half):.2f} to {100 * (mean + half):.2f}"
    assert f"Twin: {100 * mean:.2f} % accuracy" in said
    assert f"mean of 2 seeds ({shown}; each 97.31, 94.12)" in said


def test_runs_that_measure_different_things_stand_in_one_table(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", 0),
        make_run(tmp_path / "b", 1, metric="mse", value=0.25, better="lower", costs=None),
    ]
    table = text_table(results(runs))
    assert "97.31 (accuracy)" in table
    assert "0.25 (mse)" in table
    write(runs, tmp_path / "r.html", "Both", [])


def test_text_table_is_aligned_ascii(runs: list[Path]) -> None:
    table = text_table([{**r, "title": "Élan → x"} if i == 2 else r for i, r in enumerate(results(runs))])
    lines = table.splitlines()
    assert table.isascii()
    assert "Elan ? x" in table
    assert len({len(line) for line in lines}) == 1
    assert [line.startswith("---") for line in lines] == [False, True, False, False, False, True, False, False]
    assert lines[2].split()[-6:] == ["97.31", "0.00", "266,200", "33,275", "266,200", "41.2"]
