"""What the result of a run says, whatever was trained."""

import math
from collections.abc import Mapping
from typing import Any

from neuromod import Modulated
from neuromod.kinds.masks import Mask
from tasks.continual.learners.modulated import Played
from tasks.continual.learners.routed import routing
from tasks.continual.measures import matrix as metrics
from tasks.continual.measures.conditions import conditions
from tasks.continual.measures.inference import ROUTERS, asked_by, confidence, inferred, router, scenarios
from tasks.continual.measures.masks import pictures
from tasks.continual.measures.mixed import mixed
from tasks.continual.measures.replay import replay
from tasks.continual.sequence import State
from tasks.continual.streams import Stream
from tasks.runs.seeds import seeds


def trained_outcome(state: State, *, joint: bool) -> dict[str, Any]:
    """What the loop measured."""
    found = metrics.summary(state.matrix, state.initial)
    return {
        "accuracy": metrics.average_accuracy(state.matrix),
        "forgetting": None if joint else found["forgetting"],
        "summary": found,
        "matrix": [[None if v != v else v for v in row] for row in state.matrix.tolist()],
    }


def result_of(config: Mapping[str, Any], learner: Any, stream: Stream, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """All but what `weights` adds: costs, pictures, conditions, and what is inferred without task labels."""
    own, size, shared = learner.per_task()
    joint = config["order"] == "joint"
    per_task = bool(own) and not shared
    trained = (
        "nothing"
        if config["method"] == "nothing"
        else "per task"
        if per_task
        else "jointly"
        if joint
        else "in sequence"
    )
    result = {
        "title": config["title"],
        "method": config["title"],
        "role": learner.role,
        "trained": trained,
        **outcome,
        "parameters_per_task": own,
        "bytes_per_task": size,
        "parameters_shared": shared,
        "bytes_with_shared": size + 4 * shared / len(stream),
        "data": stream.describe(),
        "stream": config["stream"]["_target_"].rpartition(".")[2],
    }
    if isinstance(learner, Played):
        result |= pictures(learner.model, stream) | routing(learner.model, stream)
        options = {"batch": config["evaluation"]["batch"], "precision": config["precision"]}
        result |= conditions(learner, stream, **options, seed=seeds(config["seed"])["sampling"])
        wanted = config["inference"]
        if wanted["methods"]:
            result |= _unlabelled(learner.model, stream, wanted, seeds(config["seed"])["sampling"])
        if config["allocation"]["replay"]:
            every, sampling = config["allocation"]["replay"], seeds(config["seed"])["sampling"]
            result["replay"] = replay(learner.model, stream, every=every, options=config["allocation"], seed=sampling)
        if "brute_force" in wanted["methods"]:
            result["scenarios"] = scenarios(result["inference"]["brute_force"])
    return result


def bits_per_weight(model: Modulated, stored: float) -> float | None:
    """Bits on disk for each masked weight of a task; None where nothing is masked."""
    masked = sum(
        math.prod(s.shape) for m in model.named_modulators().values() if isinstance(m.kind, Mask) for s in m.sites
    )
    return 8 * stored / masked if masked else None


def _unlabelled(model: Modulated, stream: Stream, wanted: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What the network makes of images whose task nobody says: every method measured, and one mixed batch shown."""
    routers = {name: router(name, stream, wanted["routers"]) for name in wanted["methods"] if name in ROUTERS}
    found = inferred(model, stream, **{**wanted, "routers": routers}, seed=seed)
    result: dict[str, Any] = {"inference": found}
    methods = {name: one["task_and_class"] for name, one in found.items() if "task_and_class" in one}
    if not methods:
        return result
    best = max(methods, key=lambda name: methods[name])
    by, options = (routers[best], {}) if best in routers else asked_by(model, stream, best, len(stream), seed)
    return result | {
        "confidence": confidence(model, stream, wanted["images"], seed),
        "mixed": mixed(model, stream, by, options, seed) | {"method": best},
    }
