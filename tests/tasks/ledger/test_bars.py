import pytest

from tasks.errors import UserError
from tasks.ledger.bars import load_bars, runs_first
from tasks.ledger.entry import Form
from tests.tasks.ledger.scratch import ABOVE, BARS, write_bars


def test_a_bar_may_be_an_upper_one_and_is_held_at_its_value(tmp_path):
    low = write_bars(tmp_path, BARS.replace('op: ">="', 'op: "<="'))["psp"]
    assert [low.verdict(mean) for mean in (0.89, 0.9, 0.91)] == ["held", "held", "missed"]
    high = write_bars(tmp_path, BARS)["psp"]
    assert [high.verdict(mean) for mean in (0.89, 0.9, 0.91)] == ["missed", "held", "held"]


def test_a_bar_may_be_above_another_row(tmp_path):
    more = write_bars(tmp_path, BARS + ABOVE)["more"]
    assert [more.verdict(mean, 0.5) for mean in (0.54, 0.56)] == ["missed", "held"]
    low = write_bars(tmp_path, BARS + ABOVE.replace(">=", "<="))["more"]
    assert [low.verdict(mean, 0.5) for mean in (0.54, 0.56)] == ["held", "missed"]
    alone = write_bars(tmp_path, BARS + ABOVE.replace(", above: plain", ""))["more"]
    assert alone.verdict(0.2) == "held"
    assert str(more.bar) == ">= 0.05 above plain"
    other = write_bars(tmp_path, BARS + ABOVE.replace("metric: accuracies", "metric: other.accuracies"))["more"]
    assert other.metric == "other.accuracies.-1"
    assert more.sha256 != alone.sha256


def test_the_hash_of_an_entry_without_it_is_what_it_was(tmp_path):
    assert write_bars(tmp_path, BARS)["psp"].sha256[:10] == "f19e396d71"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("above: plain", "above: plane", "more.bar: above names a row; got 'plane'.*'plain'"),
        ("above: plain", "above: more", "more.bar: no row stands above itself; got more above more; take one bar out"),
        ("above: plain", "above: 3", "more.bar: above must be text; got 3"),
        ("metric: accuracies.-1", "metric: accuracy", "of its name; got 'accuracy', plain has 'accuracies.-1'"),
        ("metric: accuracies.-1", "metric: other.accuracies.0", "a metric of its name"),
        ("seeds: [0]", "seeds: [0, 1]", "has its seeds"),
    ],
)
def test_mistakes_in_a_bar_above_another_row(tmp_path, old, new, message):
    with pytest.raises(UserError, match=message) as caught:
        write_bars(tmp_path, BARS + ABOVE.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metric: inference", "metrics: inference", "psp has no field 'metrics'; nearest: 'metric'"),
        ("seeds: [0, 1, 2]\n", "", "psp needs the field 'seeds', its own or of its file"),
        ("seeds: [0]", "seeds: 0", "seeds must be a list of int"),
        ("seeds: [0]", "seeds: [0, 0]", "seeds must be different"),
        ("[model.width=8,", "[model.width,", "override is key=value"),
        ('op: ">="', 'op: ">"', "op must be"),
        ("value: 0.9}", "value: high}", "value must be a finite number"),
        ("plain:", "psp:", "the key 'psp' twice"),
        ("rows:", "row:", "permuted/bars.yaml has no field 'row'; nearest: 'rows'"),
        ("note: small", "was: {metrics: a}", "psp.was has no field 'metrics'; nearest: 'metric'"),
        ("title: Plain", "title: [Plain]", "title must be text"),
    ],
)
def test_mistakes_in_the_bars_are_told_in_one_line(tmp_path, old, new, message):
    with pytest.raises(UserError, match=message) as caught:
        write_bars(tmp_path, BARS.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_a_former_form_keeps_the_digest_of_what_was_run(tmp_path):
    old = write_bars(tmp_path, BARS)["psp"]
    moved = BARS.replace("inference.one_shot", "one_shot").replace("model.width=8, model.rate=1e-3, +kind=topk", "a=1")
    was = "was: {experiment: permuted, overrides: [model.width=8, model.rate=1e-3, +kind=topk], metric: inference.one_shot}"
    (tmp_path / "permuted" / "bars.yaml").unlink()
    new = write_bars(tmp_path, moved.replace("note: small", was), "stream/permuted")["psp"]
    assert new.sha256 == old.sha256
    assert new.form == Form("stream/permuted", ("a=1",), "one_shot")
    assert new.overrides_of(2) == ["experiment=stream/permuted", "a=1", "seed=2"]
    (tmp_path / "stream" / "permuted" / "bars.yaml").unlink()
    assert write_bars(tmp_path, moved, "stream/permuted")["psp"].sha256 != old.sha256


OTHER = "seeds: [0]\nrows:\n  other:\n    title: Other\n    metric: last.accuracies.-1\n"


def test_a_bar_may_be_above_a_row_of_another_experiment_and_runs_after_it(tmp_path):
    write_bars(tmp_path, OTHER, "sorted/last")
    bars = write_bars(tmp_path, BARS + ABOVE.replace("above: plain", "above: other"))
    assert list(bars) == ["psp", "plain", "more", "other"]
    assert runs_first(bars) == ["psp", "plain", "other", "more"]
    circle = OTHER + "    bar: {op: '>=', value: 0, above: more}\n"
    with pytest.raises(UserError, match=r"no row stands above itself; got (more above other|other above more)"):
        write_bars(tmp_path, circle, "sorted/last")


def test_a_row_stands_once_in_all_files_and_none_in_the_folder_itself(tmp_path):
    write_bars(tmp_path, BARS)
    with pytest.raises(UserError, match="a row stands once in all bars; plain is in permuted and sorted"):
        write_bars(tmp_path, OTHER.replace("other", "plain"), "sorted")
    with pytest.raises(UserError, match="bars stand with their experiment"):
        write_bars(tmp_path, BARS, ".")
    with pytest.raises(UserError, match="has none; create one"):
        load_bars(tmp_path / "absent")
