"""Calls of everything public with one wrong argument each: one line, or a right answer; never an error of something else."""

import random
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neuromod
from neuromod import RefusedError, analysis, inference, meta, reservoirs, rewiring, tickets
from neuromod.arguments import shown
from tests import right_calls
from tests.bank.models import target
from tests.right_calls import Call
from tests.wrong_arguments import WRONG, calls

PACKAGE = str(Path(neuromod.__file__).parent)
FUNCTIONS = {"loss", "judge", "encode", "objective", "criterion"}
"""Arguments that are functions of the user's: what one of another signature raises is its own business."""
INPUTS = {"x", "pattern", "exclude"}
"""What the user's network takes, and functions that choose sites: of a wrong one it is they that say what is wrong."""
CALLABLE = {"a module", "a source", "a function"}
ELSEWHERE = {
    "neuromod": set(),
    "analysis": {"CRITERIA"},
    "tickets": {"Ticket"},
    "rewiring": {"SCORES", "RULES", "Evidence", "Score"} | {name for name in rewiring.__all__ if name.isupper()},
    "reservoirs": {"Echo", "Moments", "Readout"},
    "meta": {"Episodes", "LinearHead", "dual", "streaming"},
    "inference": {"OBJECTIVES", "AllocationRule", "Choice", "Inference", "Prediction"},
}
"""What has its own tests of mistakes (the call itself), holds results, or is a type and a module."""
ABSTRACT = {"Generated", "Kind", "Source", "Rows", "RefusedError", "Statistics", "Store"}


def own(error: BaseException, name: str, wrong: str) -> bool:
    """Whether an error is that of a function of the user's, which neuromod calls and does not rewrite."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    ours = next((place for place, file in enumerate(frames) if file.startswith(PACKAGE)), len(frames))
    if name in INPUTS and PACKAGE not in traceback.extract_tb(error.__traceback__)[-1].filename:
        return True
    return (name in FUNCTIONS and wrong in CALLABLE) or right_calls.__file__ in frames[ours:]


def answer(call: Call, name: str, wrong: str) -> str | None:
    """What is wrong with the answer to a call with one wrong value; None where nothing is."""
    try:
        call.made(**{**call.given, name: WRONG[wrong]()})
    except RefusedError as error:
        return "more than one line" if "\n" in str(error) else None
    except TypeError as error:
        said = str(error)
        if "required" in said or "unexpected keyword" in said or own(error, name, wrong):
            return None
        return f"TypeError: {shown(said)}"
    except (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, ValueError) as error:
        # Keys that a state lacks and shapes that differ are told as torch tells them.
        if own(error, name, wrong) or str(error).startswith("Error(s) in loading state_dict"):
            return None
        return f"{type(error).__name__}: {shown(str(error))}"
    return None


def draws(folder: Path, count: int, seed: int) -> list[str]:
    """Lines about the calls of ``count`` draws that were answered with something else than one line or a result."""
    rng, found = random.Random(seed), []
    made = calls(folder)
    whole = [(title, name) for title, call in made.items() for name in call.given]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(count):
            # Every argument once in a while, in a random order.
            if number % len(whole) == 0:
                rng.shuffle(whole)
            title, name = whole[number % len(whole)]
            wrong = rng.choice(list(WRONG))
            said = answer(made[title], name, wrong)
            found += [f"{title}({name}={wrong}): {said}"] * (said is not None)
    return found


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.check)])
def test_one_wrong_argument_gets_one_line(tmp_path: Path, count: int) -> None:
    assert draws(tmp_path, count, seed=count) == []


def test_the_right_calls_are_right(tmp_path: Path) -> None:
    for title, call in calls(tmp_path).items():
        if title not in ("OutputRegulariser.hold", "Store.append"):  # these are done once
            call.made(**call.given)


def test_everything_public_is_called(tmp_path: Path) -> None:
    called = {
        title.partition(".")[0].partition(",")[0].partition(" ")[0].removesuffix("()") for title in calls(tmp_path)
    }
    for room in (neuromod, analysis, meta, inference, reservoirs, rewiring, tickets):
        left: Any = ELSEWHERE[room.__name__.rpartition(".")[2]]
        assert set(room.__all__) - called - left - ABSTRACT == set(), room.__name__


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [
        (neuromod.Threshold, neuromod.Table(1), "the kind of a modulator"),
        (neuromod.Table(1), neuromod.Threshold(), "the kind of a modulator"),
        (neuromod.Threshold(), neuromod.Table, "the source of a modulator"),
        (neuromod.Threshold(), neuromod.Threshold(), "the source of a modulator"),
    ],
)
def test_a_class_for_an_instance_and_a_swap(kind: Any, source: Any, words: str) -> None:
    t = target()
    with pytest.raises(RefusedError, match=words):
        neuromod.Modulator(kind, source, t.weights("*"))


def test_a_hypernetwork_at_inputs_of_another_size() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    t = neuromod.Target(net, torch.zeros(2, 1, 8, 8))
    model = neuromod.Modulated(t, neuromod.Modulator(neuromod.Affine(), neuromod.Hypernet("input"), t.norms()))
    with pytest.raises(RefusedError, match=r"made for 64 numbers, .*got \(1, 9, 9\); pass"):
        model(torch.zeros(2, 1, 9, 9))
