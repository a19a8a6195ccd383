"""A state that is loaded: whole or not at all, and no task is lost to one that lacks it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from neuromod import (
    Affine,
    Gate,
    Head,
    Hypernet,
    LowRank,
    LowRankDelta,
    Modulated,
    Modulator,
    Table,
    Target,
    Threshold,
)

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
NET = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 3))
TARGET = Target(NET, X)


def model(tasks: int = 3, seed: int = 0, rank: int = 2) -> Modulated:
    masks = Modulator(Threshold(), Table(tasks), TARGET.weights("0.*"), seed=seed)
    delta = Modulator(LowRankDelta(rank), Hypernet(tasks=tasks, hidden=5), TARGET.weights("2.*"), seed=seed)
    gains = Modulator(Affine(), LowRank(tasks=tasks), TARGET.norms(), seed=seed)
    return Modulated(TARGET, masks, delta, gains, Modulator(Head(), Table(tasks), TARGET.head(), seed=seed))


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def unmoved(net: nn.Module, before: dict[str, Tensor]) -> bool:
    now = net.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[name], value) for name, value in before.items())


def spoil(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    state = dict(sealed(model(seed=1)).state_dict())
    change(state)
    return state


def sealed(made: Modulated, *tasks: int) -> Modulated:
    for task in tasks or (1,):
        made.seal(task)
    return made


ROW = "modulators.threshold.source.rows.2.0/weight/score"
STACK = "modulators.affine.sealed.stacks.0."
REFUSED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a key too many": lambda s: s.update({"other": torch.zeros(2)}),
    "a key too few": lambda s: s.pop("draws"),
    "a row of another shape": lambda s: s.update({ROW: torch.zeros(3)}),
    "a row without a part": lambda s: s.pop("modulators.head.source.rows.2.3/weight/bias"),
    "a row of no task": lambda s: s.update({ROW.replace(".2.", ".02."): s.pop(ROW)}),
    "no tensor": lambda s: s.update({ROW: 3}),
    "an embedding of another width": lambda s: s.update(
        {"modulators.lowrankdelta.source.codes.table.2": torch.zeros(5)}
    ),
    "a sealed part too few": lambda s: s.pop(f"{STACK}1/gain"),
    "a sealed part of another shape": lambda s: s.update({f"{STACK}1/gain": torch.zeros(1, 3)}),
    "a sealed task twice": lambda s: s.update({f"{STACK}task": s[f"{STACK}task"].repeat(2)}),
    "a sealed task below zero": lambda s: s.update({f"{STACK}task": -1 - s[f"{STACK}task"]}),
    "a stack of nothing": lambda s: s.update({f"{STACK.replace('0', 'x')}task": torch.zeros(1, dtype=torch.long)}),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_a_refused_load_leaves_everything(change: Callable[[dict[str, Any]], Any]) -> None:
    made = sealed(model(4), 0, 3)
    before, parameters = snapshot(made), list(made.parameters())
    with pytest.raises(RuntimeError, match=r"key\(s\) in state_dict|size mismatch|expected torch.Tensor"):
        made.load_state_dict(spoil(change))
    assert unmoved(made, before)
    assert [id(p) for p in made.parameters()] == [id(p) for p in parameters]
    assert made.tasks() == (0, 1, 2, 3)
    made(X, task=[0, 1, 2, 3])
    made.load_state_dict(spoil(lambda s: None))
    assert made.tasks() == (0, 1, 2)


def test_the_rank_of_another_kind_is_no_other_number_of_tasks() -> None:
    made = model()
    with pytest.raises(RuntimeError, match="size mismatch"):
        made.load_state_dict(model(rank=1).state_dict())
    assert made.tasks() == (0, 1, 2)


def test_names_of_another_root_are_named_and_nothing_is_lost() -> None:
    made, state = sealed(model()), {f"module.{name}": value for name, value in sealed(model(2)).state_dict().items()}
    before = snapshot(made)
    with pytest.raises(
        RuntimeError, match=r"Missing key.*threshold\.source\.rows\.0.*\n.*Unexpected key.*module\.draws"
    ):
        made.load_state_dict(state)
    found = made.load_state_dict(state, strict=False)
    assert set(found.missing_keys) == set(before)
    assert set(found.unexpected_keys) == set(state)
    assert unmoved(made, before)
    assert set(made.load_state_dict({}, strict=False).missing_keys) == set(before)
    assert unmoved(made, before)


def test_a_part_moves_what_it_holds() -> None:
    made, other = sealed(model()), sealed(model(seed=1), 2)
    state, before = dict(other.state_dict()), snapshot(made)
    part = {name: value for name, value in state.items() if ".affine." in name and "codes" not in name}
    found = made.load_state_dict(part, strict=False)
    assert made.tasks() == (0, 1, 2)
    assert found.unexpected_keys == []
    assert f"{STACK}task" in found.missing_keys  # of task 1, which the part does not have
    assert f"{STACK}1/gain" in found.missing_keys
    assert all(torch.equal(made.state_dict()[name], value) for name, value in before.items() if ".affine." not in name)
    # Task 2 is sealed there: its row comes to rest here too, and is not live beside it.
    assert {n: m.source.tasks() for n, m in made.named_modulators().items()} == {
        "threshold": (0, 2),
        "lowrankdelta": (0, 2),
        "affine": (0,),
        "head": (0, 2),
    }
    rows = [m.modulators["affine"].stored(2) for m in (made, other)]
    assert all(torch.equal(rows[0][key], value) for key, value in rows[1].items())


def test_a_live_row_of_a_part_takes_the_place_of_a_sealed_one() -> None:
    made, state = sealed(model()), model(seed=1).state_dict()
    made.load_state_dict({n: v for n, v in state.items() if ".threshold.source.rows.1." in n}, strict=False)
    masks = made.modulators["threshold"]
    assert masks.source.tasks() == (0, 2, 1)
    assert masks.sealed.tasks() == ()
    assert made.tasks() == (0, 1, 2)


@pytest.mark.parametrize("many", [1, 2, 5])
@pytest.mark.parametrize("rest", [(), (0,), (0, 1)])
def test_a_whole_state_brings_its_tasks(many: int, rest: tuple[int, ...]) -> None:
    at_rest = [task for task in rest if task < many]
    other = model(many, seed=1)
    for task in at_rest:
        other.seal(task)
    other.eval()
    made, holder = model(), nn.ModuleDict({"inner": sealed(model(), 2)})
    assert made.load_state_dict(other.state_dict()).missing_keys == []
    holder.load_state_dict({f"inner.{name}": value for name, value in other.state_dict().items()})
    for net in (made.eval(), holder["inner"].eval()):
        assert isinstance(net, Modulated)
        assert net.tasks() == tuple(range(many))
        assert sorted(net.modulators["head"].sealed.tasks()) == at_rest
        assert unmoved(net, snapshot(other))
        for task in range(many):
            assert torch.equal(net(X, task=task), other(X, task=task))


def test_without_strict_tasks_join_and_none_leaves() -> None:
    made, other = sealed(model(3), 0), sealed(model(2, seed=1), 1)
    found = made.load_state_dict(other.state_dict(), strict=False)
    assert made.tasks() == (0, 1, 2)
    assert {name.split(".rows.")[1][0] for name in found.missing_keys if ".rows." in name} == {"2"}
    again = model(1)
    assert again.load_state_dict(other.state_dict(), strict=False).missing_keys == []
    assert again.tasks() == (0, 1)


def test_a_part_inside_another_module_costs_no_task() -> None:
    holder = nn.ModuleDict({"inner": sealed(model())})
    state = {n: v for n, v in holder.state_dict().items() if ".rows.0." in n}
    before = snapshot(holder)
    holder.load_state_dict(state, strict=False)
    assert unmoved(holder, before)


def test_a_modulator_and_a_source_load_alone() -> None:
    for alone in (lambda m: m, lambda m: m.source):
        few, many = model(2), model(4, seed=1)
        for name in few.modulators:
            part = alone(few.modulators[name])
            part.load_state_dict(alone(many.modulators[name]).state_dict())
            assert unmoved(part, snapshot(alone(many.modulators[name])))
            with pytest.raises(RuntimeError, match="Missing"):
                part.load_state_dict({})
        assert few.tasks() == (0, 1, 2, 3)


def test_loading_moves_no_dtype() -> None:
    other = sealed(model(4, seed=1).double(), 0, 3)
    made = sealed(model(), 0)
    made.load_state_dict(other.state_dict())
    assert made.tasks() == (0, 1, 2, 3)
    floats = {v.dtype for v in made.state_dict().values() if v.is_floating_point()}
    assert floats == {torch.float32}
    made(X, task=[0, 1, 2, 3])


@pytest.mark.parametrize("tasks", [(0,), (0, 1, 2), (2, 0)])
def test_safetensors_keep_sealed_tasks(tmp_path: Path, tasks: tuple[int, ...]) -> None:
    made, again = sealed(model(3), *tasks), model(1, seed=4)
    save_model(made, str(tmp_path / "a"))
    assert load_model(again, tmp_path / "a") == (set(), [])
    assert again.tasks() == (0, 1, 2)
    for task in range(3):
        assert torch.equal(again.eval()(X, task=task), made.eval()(X, task=task))
    holder = nn.Sequential(made)
    save_model(holder, str(tmp_path / "b"))
    assert load_model(nn.Sequential(model(2, seed=5)), tmp_path / "b") == (set(), [])


def test_a_state_is_no_view_of_the_model() -> None:
    made = sealed(model(), 0)
    assert all(v.is_contiguous() and v.untyped_storage().nbytes() == v.nbytes for v in made.state_dict().values())


def test_a_table_of_one_row_takes_no_tasks() -> None:
    one = Modulated(TARGET, Modulator(Gate(), Table(None), TARGET.norms(), seed=0))
    many = Modulated(TARGET, Modulator(Gate(), Table(3), TARGET.norms(), seed=0))
    for made, other in ((one, many), (many, one)):
        before = snapshot(made)
        with pytest.raises(RuntimeError, match="Missing"):
            made.load_state_dict(other.state_dict())
        assert unmoved(made, before)
