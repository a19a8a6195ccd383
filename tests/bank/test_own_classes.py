"""A kind, a source and a body of the user's own: sealed, stored and loaded by name, with the classes passed and never found."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Hypernet,
    Kind,
    Modulated,
    Modulator,
    RefusedError,
    Rows,
    Site,
    Source,
    Store,
    Table,
    Threshold,
    from_pretrained,
    save_pretrained,
)
from neuromod.sources.base import Row, Starts
from neuromod.sources.context import Context
from tests.bank.models import X, target


@dataclass(frozen=True)
class Shift(Kind):
    """``W' = W + s``, one number per site; at rest in sixteen bits, under another name."""

    size: float = 0.5

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {"s": ()}

    def start(self, site: Site, now: Mapping[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        return {"s": torch.randn((), generator=rng) * self.size}

    def edits(self, site: Site, raw: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weight = now[site.name]
        return {site.name: weight + (raw["half"] if "half" in raw else raw["s"]).to(weight)}

    def freeze(self, site: Site, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"half": raw["half"].clone() if "half" in raw else raw["s"].detach().half()}


class Wave(Source):
    """Task t starts at the kind's row and learns one factor of it: three tensors of its own are too many."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain, self.factors, self.base = gain, nn.ParameterDict(), dict[str, Tensor]()

    def bind(self, starts: Starts) -> None:
        self.base = starts.row("offset")

    def add(self, task: int, starts: Starts, options: Mapping[str, int]) -> list[nn.Parameter]:
        self.factors[str(task)] = nn.Parameter(torch.tensor(self.gain * (task + 1)))
        return [self.factors[str(task)]]

    def tasks(self) -> tuple[int, ...]:
        return tuple(map(int, self.factors))

    def own(self, task: int) -> Row:
        return {key: value * self.factors[str(task)] for key, value in self.base.items()}

    def forget(self, task: int) -> None:
        del self.factors[str(task)]

    def forward(self, context: Context) -> Rows:
        return Rows(tuple(self.own(task) for task in context.tasks or ()), context.index)

    def arguments(self) -> dict[str, Any]:
        return {"gain": self.gain}


def my_body() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 7), nn.Tanh())


class MyBody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


def model(source: Source, kind: Kind | None = None) -> Modulated:
    t = target()
    m = Modulated(t, Modulator(kind or Shift(), source, t.weights("*"), seed=4))
    for task in (0, 3) if source.reads == "task" else ():
        m.add(task)
        m.seal(task)
    return m.eval()


@pytest.mark.parametrize("source", [lambda: Table([]), Wave])
def test_a_kind_and_a_source_come_back(tmp_path: Path, source: Callable[[], Source]) -> None:
    before = model(source())
    save_pretrained(before, tmp_path / "s")
    save_pretrained(before, tmp_path / "s")  # a store is opened with the classes of the model at hand
    after = from_pretrained(tmp_path / "s", target=target(), classes=[Shift, Wave, my_body])
    assert after.tasks() == (0, 3)
    assert torch.equal(before(X, task=3), after(X, task=3))
    assert not torch.equal(before(X, task=3), before.target(X))
    kinds = [m.kind for m in after.named_modulators().values()]
    assert kinds == [Shift()]
    assert Store.open(tmp_path / "s", classes=[Shift, Wave]).read(3).keys() == {"shift"}


@pytest.mark.parametrize("body", [my_body, MyBody, lambda: MyBody()], ids=["function", "class", "instance"])
@pytest.mark.parametrize("reads", ["input", "task"])
def test_a_body_comes_back(tmp_path: Path, body: Any, reads: str) -> None:
    given = body if hasattr(body, "__name__") and body.__name__ != "<lambda>" else body()
    options: dict[str, Any] = {"tasks": [], "embedding": 12} if reads == "task" else {}
    before = model(Hypernet(reads, body=given, **options))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in before.parameters():
            parameter += torch.randn(parameter.shape, generator=rng)
    save_pretrained(before, tmp_path / "s")
    state = torch.get_rng_state()
    after = from_pretrained(tmp_path / "s", target=target(), classes=[Shift, my_body, MyBody])
    assert torch.equal(state, torch.get_rng_state())
    call: dict[str, Any] = {"task": 3} if reads == "task" else {}
    assert torch.equal(before(X, **call), after(X, **call))


@pytest.mark.parametrize(
    ("source", "kind", "classes", "missing"),
    [
        (lambda: Table([]), Shift(), [], "the kind 'Shift'.*classes=\\[Shift\\]"),
        (lambda: Table([]), Shift(), [Wave, my_body], "the kind 'Shift'.*classes=\\[Shift\\]"),
        (Wave, Shift(), [Shift], "the source 'Wave'.*classes=\\[Wave\\]"),
        (lambda: Hypernet("input", body=my_body), Shift(), [Shift], "the body 'my_body'.*classes=\\[my_body\\]"),
    ],
)
def test_a_class_that_is_not_given_is_named(
    tmp_path: Path, source: Callable[[], Source], kind: Kind, classes: list[Any], missing: str
) -> None:
    save_pretrained(model(source(), kind), tmp_path / "s")
    for load in (from_pretrained, Store.open):
        with pytest.raises(RefusedError, match=missing) as caught:
            load(tmp_path / "s", classes=classes)  # type: ignore[operator]
        assert "\n" not in str(caught.value)


def test_a_name_means_one_thing(tmp_path: Path) -> None:
    save_pretrained(model(Table([])), tmp_path / "s")

    def clash(name: str, like: Any) -> Any:
        return type(name, (like,), {})

    for classes, said in (
        ([clash("Threshold", Kind)], "'Threshold' is neuromod's own"),
        ([clash("Hypernet", Source)], "'Hypernet' is neuromod's own"),
        ([clash("Body", nn.Module)], "'Body' is neuromod's own"),
        ([Shift, clash("Shift", Kind)], "'Shift' is another of them"),
        ([Shift, lambda: my_body()], "each with a name"),
        ([3], "each with a name; got 3"),
        ([my_body()], "each with a name"),
    ):
        with pytest.raises(RefusedError, match=said):
            from_pretrained(tmp_path / "s", target=target(), classes=classes)
    assert from_pretrained(tmp_path / "s", target=target(), classes=[Shift, Shift]).tasks() == (0, 3)


def test_saving_refuses_what_could_not_be_named(tmp_path: Path) -> None:
    class Threshold2(Threshold):
        pass

    Threshold2.__name__ = "Threshold"
    with pytest.raises(RefusedError, match="'Threshold' is neuromod's own"):
        save_pretrained(model(Table([]), Threshold2()), tmp_path / "a")
    with pytest.raises(RefusedError, match="got '<lambda>'; pass body=my_body"):
        save_pretrained(model(Hypernet("input", body=lambda: my_body())), tmp_path / "b")

    class Silent(Wave):
        def arguments(self) -> dict[str, Any]:
            return Source.arguments(self)

    with pytest.raises(RefusedError, match="Silent does not; give it arguments"):
        save_pretrained(model(Silent()), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_taken_from_a_path_in_the_file(tmp_path: Path) -> None:
    save_pretrained(model(Table([])), tmp_path / "s")
    config = tmp_path / "s" / "config.json"
    assert "tests.bank" not in config.read_text()
    assert "Shift" in config.read_text()
    assert "classes=[Shift]" in (tmp_path / "s" / "README.md").read_text()


def test_a_damaged_row_of_a_kind_of_ones_own_is_told(tmp_path: Path) -> None:
    m = model(Table([]))
    row = m.named_modulators()["shift"].sealed.row(0)
    row["1/weight/half" if "1/weight/half" in row else next(iter(row))].fill_(math.nan)
    with pytest.raises(RefusedError, match="numbers at rest are finite"):
        save_pretrained(m, tmp_path / "s")


def test_own_and_builtin_go_together(tmp_path: Path) -> None:
    t = target()
    shift = Modulator(Shift(size=2.0), Table(1), t.weights("*"), seed=0)
    before = Modulated(t, shift, Modulator(Affine(), Table(1), t.norms(), seed=0))
    before.seal(0)
    save_pretrained(before, tmp_path / "s", coding="raw")
    after = from_pretrained(tmp_path / "s", target=t, classes=[Shift])
    assert torch.equal(before.eval()(X, task=0), after.eval()(X, task=0))
