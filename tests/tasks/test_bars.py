import pytest

from tasks.errors import UserError
from tasks.ledger.bars import load_bars

BARS = """
psp:
  title: Superposition | of tasks
  experiment: permuted
  overrides: [model.width=8, model.rate=1e-3, +kind=topk]
  seeds: [0, 1, 2]
  metric: inference.one_shot
  bar: {op: ">=", value: 0.9}
  published: {value: 0.94, source: "Wortsman et al. 2020, table 2", note: "250 tasks, ours 20"}
  note: small
plain:
  title: Plain
  experiment: permuted
  seeds: [0]
  metric: accuracies.-1
"""


def write_bars(folder, text):
    (folder / "bars.yaml").write_text(text)
    return load_bars(folder / "bars.yaml")


def test_a_bar_may_be_an_upper_one_and_is_held_at_its_value(tmp_path):
    low = write_bars(tmp_path, BARS.replace('op: ">="', 'op: "<="'))["psp"]
    assert [low.verdict(mean) for mean in (0.89, 0.9, 0.91)] == ["held", "held", "missed"]
    high = write_bars(tmp_path, BARS)["psp"]
    assert [high.verdict(mean) for mean in (0.89, 0.9, 0.91)] == ["missed", "held", "held"]


ABOVE = """
more:
  title: More
  experiment: permuted
  seeds: [0]
  metric: accuracies.-1
  bar: {op: ">=", value: 0.1, above: plain}
"""


def test_a_bar_may_be_above_another_row(tmp_path):
    more = write_bars(tmp_path, BARS + ABOVE)["more"]
    assert [more.verdict(mean, 0.5) for mean in (0.59, 0.61)] == ["missed", "held"]
    low = write_bars(tmp_path, BARS + ABOVE.replace(">=", "<="))["more"]
    assert [low.verdict(mean, 0.5) for mean in (0.59, 0.61)] == ["held", "missed"]
    alone = write_bars(tmp_path, BARS + ABOVE.replace(", above: plain", ""))["more"]
    assert alone.verdict(0.2) == "held"
    assert str(more.bar) == ">= 0.1 above plain"
    other = write_bars(tmp_path, BARS + ABOVE.replace("metric: accuracies", "metric: other.accuracies"))["more"]
    assert other.metric == "other.accuracies.-1"
    assert more.sha256 != alone.sha256


def test_the_hash_of_an_entry_without_it_is_what_it_was(tmp_path):
    assert write_bars(tmp_path, BARS)["psp"].sha256[:10] == "f19e396d71"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("above: plain", "above: plane", "more.bar: above names a row that stands before it; got 'plane'.*'plain'"),
        ("above: plain", "above: more", "got 'more'"),
        ("above: plain", "above: 3", "more.bar: above must be text; got 3"),
        ("metric: accuracies.-1", "metric: accuracy", "of its name; got 'accuracy', plain has 'accuracies.-1'"),
        ("metric: accuracies.-1", "metric: other.accuracies.0", "a metric of its name"),
        ("seeds: [0]", "seeds: [0, 1]", "has its seeds"),
    ],
)
def test_mistakes_in_a_bar_above_another_row(tmp_path, old, new, message):
    with pytest.raises(UserError, match=message) as caught:
        write_bars(tmp_path, BARS + ABOVE.replace(old, new))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metric: inference", "metrics: inference", "psp has no field 'metrics'; nearest: 'metric'"),
        ("  seeds: [0]\n", "", "plain needs the field 'seeds'"),
        ("seeds: [0]", "seeds: 0", "seeds must be a list of int"),
        ("seeds: [0]", "seeds: [0, 0]", "seeds must be different"),
        ("[model.width=8,", "[model.width,", "override is key=value"),
        ('op: ">="', 'op: ">"', "op must be"),
        ("value: 0.9}", "value: high}", "value must be a finite number"),
        ("plain:", "psp:", "psp"),
        ("title: Plain", "title: [Plain]", "title must be text"),
    ],
)
def test_mistakes_in_the_bars_are_told_in_one_line(tmp_path, old, new, message):
    with pytest.raises(UserError, match=message) as caught:
        write_bars(tmp_path, BARS.replace(old, new, 1))
    assert "\n" not in str(caught.value)
