import pytest

from tasks.bars import load_bars
from tasks.errors import UserError

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
