"""Every row of the ledger still means what it meant: its command of today composes to the configuration that was run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.config.load import load
from tasks.ledger.bars import load_bars
from tasks.ledger.store import load_ledger

RESULTS = Path(__file__).parents[2] / "results"
RUN = ("steps", "batch", "outputs", "precision", "augment", "channels_last", "schedule", "together", "transfer")
FAMILIES = {"sequence": "Sequence", "joint": "Joint", "bank": "Bank", "online": "Online"}
LEARNERS = {
    "dense": "Dense",
    "separate": "Separate",
    "ewc": "OnlineEwc",
    "psp": "Psp",
    "batch_ensemble": "BatchEnsemble",
}
LEARNERS |= {"ridge": "Ridge", "nothing": "Nothing", "routed": "Routed", "modulated": "Modulated"}
ARMS = {"meta": "Meta", "sequential": "Alternating", "pretrain": "Pretrain", "nothing": "Untrained"}
KINDS = {"fewshot": "FewShot", "waves": "Sinusoids", "sequential": "Streaming"}
DEFAULTS = [(f"run.learner.regulariser.{k}", v) for k, v in (("lookahead", True), ("stored", True), ("sample", None))]
PLACES = {"optimizer": "optimizer", "target": "target", "modulators": "learner.modulators", "baseline": "learner"}
PLACES |= {"regulariser": "learner.regulariser", "allocation": "allocation", "evaluation": "evaluation"}
PLACES |= {"inference": "measures.inference", "analysis": "measures.criteria", "router": "learner"}


def paths(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted path; an empty mapping says nothing."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def expected(old: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options of a configuration of before, each where it stands today."""
    yield from ((f"data.{path}", value) for path, value in paths(old["data"]))
    yield "threads", old["threads"]
    if "run" in old:  # of the form of today
        yield from ((f"run.{path}", value) for path, value in paths(old["run"]))
        return
    if old.get("meta") is not None:
        yield from of_meta(old)
        return
    family, learner = FAMILIES[old["order"]], LEARNERS[old["method"]]
    yield "run._target_", f"tasks.continual.{family}"
    yield "run.learner._target_", f"tasks.continual.learners.{learner}"
    for key in RUN:
        lacks = {"Bank": (), "Online": ("schedule", "together", "transfer")}.get(family, ("together", "transfer"))
        if key in old and key not in lacks:
            yield f"run.{key}", old[key]
    for path, value in paths(old["stream"]):
        told = value.replace("tasks.streams", "tasks.continual.streams") if path == "_target_" else value
        yield f"run.stream.{path}", told
    for key in ("compile", "vmap"):
        if learner == "Modulated":
            yield f"run.learner.{key}", old.get(key, False)
    for key, place in PLACES.items():
        for path, value in paths(old.get(key) or {}):
            yield from placed(key, place, path, value, learner, family)


def placed(key: str, place: str, path: str, value: Any, learner: str, family: str) -> Iterator[tuple[str, Any]]:
    """One option, if the family or the learner has it: what they took without effect before stands nowhere today."""
    if key in ("modulators", "regulariser") and learner != "Modulated":
        return
    if (key, learner) in (("router", "Modulated"), ("analysis", "Modulated")) or (
        key == "router" and learner != "Routed"
    ):
        return
    if key == "allocation" and path == "replay":
        yield "run.measures.replay.every", value
    elif key == "allocation" and family != "Online":
        return
    elif key == "allocation" and path == "jitter":
        yield "run.jitter", value
    else:
        path = path.replace("routers.", "predictors.")
        told = [m.replace("router_", "predictor_") for m in value] if path == "methods" else value
        yield f"run.{place}.{path}", told


def of_meta(old: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    meta = old["meta"]
    yield "run._target_", f"tasks.meta.{KINDS[meta['kind']]}"
    yield from ((f"run.{key}", old[key]) for key in ("steps", "schedule") if key in old)
    for key in ("rate", "validation", "ways", "shots", "queries", "tasks", "turned", "width", "clamp"):
        if key in meta:
            yield f"run.{key}", meta[key]
    for key in ("net", "test"):
        yield from ((f"run.{key}.{path}", value) for path, value in paths(meta.get(key, {})))
    if meta["kind"] == "sequential":
        arm = ARMS[meta["plan"]["learning"]]
        yield "run.arm._target_", f"tasks.meta.arms.{arm}"
        has = {"Meta": {"order", "fast", "rate", "reset", "steps", "remember"}, "Untrained": set()}
        has |= {"Pretrain": {"steps", "remember"}, "Alternating": has["Meta"] - {"order"}}
        yield from ((f"run.arm.{key}", value) for key, value in meta["plan"].items() if key in has[arm])
        return
    method = meta["method"]
    if method in ("maml", "cavia"):
        yield from ((f"run.adapt.{key}", value) for key, value in {**meta["inner"], "order": meta["order"]}.items())
    if method == "cavia":
        yield "run.adapt.context", meta["context"]
    if method in ("film", "off"):
        yield "run.adapt.pretrain", meta["pretrain"]


def at(config: Mapping[str, Any], path: str) -> Any:
    node: Any = config
    parts = path.split(".")
    for place, part in enumerate(parts):
        if isinstance(node, Mapping) and part not in node:
            # Options of a grid have dots in them.
            return node.get(".".join(parts[place:]), KeyError)
        node = node[part]
    return node


ROWS = load_ledger(RESULTS)
BARS = load_bars(RESULTS)
FORMS: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
# Rows of before the house was rebuilt: a config of today has its family under `run`, and no other form to be told from.
for row in (row for row in ROWS if "run" not in row["config"]):
    FORMS.setdefault((BARS[row["row"]].experiment, BARS[row["row"]].overrides), row)


@pytest.mark.check
@pytest.mark.parametrize("form", FORMS, ids=lambda form: " ".join([form[0], *form[1]]))
def test_a_command_of_today_composes_to_what_was_run(form: tuple[str, tuple[str, ...]]) -> None:
    experiment, overrides = form
    now = load([f"experiment={experiment}", *overrides])
    compared = 0
    for path, value in expected(FORMS[form]["config"]):
        found = at(now, path)
        if found is KeyError:  # left to what is called, and at its default
            assert (path, value) in DEFAULTS
            continue
        assert found == value, path
        compared += 1
    assert compared > 15
