"""The report, from fake run folders: what stands in it, that it stands alone, and that it is always the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.report.table import columns, text_table
from tests.tasks.report.pages import METHODS, Page, make_run, write


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
    refused("reads folders of runs; .*nowhere' is none", [tmp_path / "nowhere"])
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
