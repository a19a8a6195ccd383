"""From a resolved config to a finished run."""

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from hydra.utils import get_class, get_method
from torch import nn

from neuromod import Modulated, Recipe, Target
from neuromod.kinds.masks import Mask
from tasks import metrics
from tasks.analysed import analysed
from tasks.baselines import OPTIONS, baseline
from tasks.build import modulated, regulariser
from tasks.conditions import conditions
from tasks.config import load as compose
from tasks.data import load
from tasks.errors import UserError, nearest
from tasks.fill import Learnt, fill, learn
from tasks.inferred import ROUTERS, asked_by, check_method, confidence, inferred, router, scenarios
from tasks.mixed import mixed
from tasks.online import online
from tasks.pictures import pictures
from tasks.played import Played
from tasks.prepare import prepared
from tasks.replay import replay
from tasks.routed import bank_config, restore, routed, routing
from tasks.runs import Run
from tasks.seeds import seeds
from tasks.selection import chosen
from tasks.streams import AUGMENT, Stream, held_out
from tasks.train import Plan, State, train
from tasks.trained import trained
from tasks.transfer import Transfer, steps_to

GROWING = ("bank", "online")
METHODS = ("modulated", "routed", *OPTIONS)


def execute(
    config: Mapping[str, Any],
    *,
    root: Path,
    command: Sequence[str],
    held: int | None = None,
    results: Path = Path("results"),
    jobs: int = 1,
) -> Path:
    """Run an experiment to its end, or go on with it; returns its folder. A finished run is left as it is.

    ``held`` training images of each task stand in for its test images (for `select`). ``jobs`` processes fill a bank.
    """
    torch.set_num_threads(config["threads"])
    device = _device(config["device"])
    for name in config["inference"]["methods"]:
        check_method(name)
    bank = None
    if config["method"] == "routed":
        told = bank_config(config, compose)
        bank = told, execute(told, root=root, command=command, held=held, results=results)
    derived = seeds(config["seed"])
    stream = make_stream(config, derived, held).to(device)
    target = make_target(config, stream, derived)
    recorded = dict(config) | {"held_out": held, "data_sha256": stream.image_set.sha256}
    slug = f"{config['experiment']}-seed{config['seed']}"
    with Run.open(root, slug, recorded, target.fingerprint(), list(command), device=device.type) as run:
        if run.finished:
            return run.folder
        if run.resumed and run.resumed.elsewhere:
            print(
                f"note: goes on at step {run.resumed.step} under other code than it began with ({run.resumed.began[:10]})"
            )
        began = time.process_time()
        learner = make_learner(config, target, stream, derived, bank).to(device)
        plan, options = make_plan(config), {"seed": derived["data"], "title": config["title"]}
        if config["order"] == "bank":
            assert isinstance(learner, Played)
            spread = {"jobs": jobs, "elsewhere": partial(learn_elsewhere, dict(config), held)}
            asked = {"together": config["together"], "transfer": config["transfer"]}
            filled = fill(learner, stream, plan, run, **asked, **spread, **options)
            outcome: dict[str, Any] = {"accuracy": fmean(filled.final), "forgetting": filled.forgetting}
            outcome |= {"matrix": [filled.final], "learned": filled.learned, "stored_bytes_per_task": filled.stored}
            outcome |= {"bits_per_weight": _bits(learner.model, filled.stored)}
            if config["together"] == 1:
                outcome |= {"steps_to_90": steps_to(run.metrics(), 0.9, plan_steps=config["steps"])}
        elif config["order"] == "online":
            assert isinstance(learner, Played)
            found, final = online(learner, stream, plan, run, options=config["allocation"], **options)
            outcome = {"accuracy": fmean(final), "forgetting": None, "matrix": [final]}
            outcome |= {"allocation": found.summary(range(len(stream)))}
        else:
            outcome = _outcome(train(learner, stream, plan, run, **options), joint=config["order"] == "joint")
        learner.eval()
        result = _result(config, learner, stream, outcome)
        result |= analysed(learner, target.tensors(), stream, config["analysis"], derived["sampling"])
        if held is None:
            result["selection"] = chosen(config, results)
        run.finish(result | {"seconds": round(time.process_time() - began, 2)})
        return run.folder


def learn_elsewhere(
    config: Mapping[str, Any], held: int | None, blocks: Sequence[Sequence[int]], first: int
) -> list[list[Learnt]]:
    """Some blocks of a bank, learned from the config alone: in another process."""
    torch.set_num_threads(config["threads"])
    derived, plan = seeds(config["seed"]), make_plan(config)
    stream = make_stream(config, derived, held).to(_device(config["device"]))
    learner = make_learner(config, make_target(config, stream, derived), stream, derived)
    played = learner.to(stream[0].train.images.device)
    assert isinstance(played, Played)
    found = []
    for block in blocks:
        found.append(learn(played, stream, plan, block, derived["data"], first, Transfer("none")))
        first += len(block) * plan.steps
    return found


def make_stream(config: Mapping[str, Any], derived: Mapping[str, int], held: int | None = None) -> Stream:
    """The stream of tasks, its test images held out of the training images if asked for."""
    data = config["data"]
    images = prepared(load(data["name"], root=data["root"], download=data["download"]), data)
    options = dict(config["stream"])
    # Called and not instantiated: hydra would turn the image set, a dataclass, into a config.
    stream: Stream = get_method(options.pop("_target_"))(images, seed=derived["data"], **options)
    return stream if held is None else held_out(stream, held, derived["data"])


def make_target(config: Mapping[str, Any], stream: Stream, derived: Mapping[str, int]) -> Target:
    """The frozen network: drawn by the config's recipe, or with trained ``weights`` from the data root."""
    options = dict(config["target"])
    norm, weights = options.pop("norm"), options.pop("weights", None)
    outputs = config["outputs"] or stream.classes
    options["kwargs"] = {**options["kwargs"], "shape": list(stream.shape), "outputs": outputs}
    example = stream[0].view((stream[0].train.images if len(stream[0].train) else stream[0].test.images)[:2])
    if weights is not None:
        net = trained(options["constructor"], options["kwargs"], weights, config["data"]["root"])
        return Target(net, example.cpu(), norm=norm)
    return Target.from_recipe(Recipe(**options, seed=derived["target"]), example.cpu(), norm=norm)


def make_learner(
    config: Mapping[str, Any],
    target: Target,
    stream: Stream,
    derived: Mapping[str, int],
    bank: tuple[Mapping[str, Any], Path] | None = None,
) -> nn.Module:
    """What is trained; ``bank`` is the config and the folder of the finished run whose tasks a router mixes."""
    if config["order"] in GROWING and config["method"] != "modulated":
        rule = f"order={config['order']} fills a bank of modulations"
        raise UserError(f"{rule}; got method={config['method']}; pass order=sequence")
    if config["regulariser"]["beta"] and config["method"] in METHODS[1:]:
        raise UserError(
            f"a regulariser acts on method=modulated; got method={config['method']}; pass regulariser.beta=0"
        )
    match config["method"]:
        case name if name in OPTIONS:
            sizes = {"tasks": len(stream), "classes": stream.classes}
            return baseline(name, target, config["baseline"], **sizes, seed=derived["source"])
        case "modulated":
            widths, options = [task.classes for task in stream], {"seed": derived["source"], "vmap": config["vmap"]}
            # A bank, and an online run, learn of tasks as they come.
            count = 0 if config["order"] in GROWING else len(stream)
            model = modulated(target, config["modulators"], tasks=count, widths=widths[:count], **options)
            if config["compile"]:
                model.compile()
            return Played(model, regulariser(model, config, seed=derived["source"]))
        case "routed":
            if bank is None:
                raise UserError("method=routed mixes the tasks of a finished run; got none; start it with execute()")
            trained = make_learner(bank[0], target, stream, derived)
            restore(trained, bank[1])
            assert isinstance(trained, Played)
            return Played(routed(trained.model, config, derived["source"]))
        case other:
            raise UserError(
                f"method must be one of {', '.join(METHODS)}; got {other!r}; nearest: {nearest(str(other), METHODS)}"
            )


def make_plan(config: Mapping[str, Any]) -> Plan:
    """The numbers of the loop; a word that is not known is answered with the nearest."""
    _known(config, "order", ("sequence", "joint", *GROWING))
    _known(config, "schedule", ("constant", "cosine"))
    _known(config, "precision", ("float32", "bfloat16"))
    if config["augment"] is not None:
        _known(config, "augment", tuple(AUGMENT))
    options = dict(config["optimizer"])
    build = get_class(options.pop("_target_"))
    return Plan(
        config["order"],
        config["steps"],
        config["batch"],
        config["schedule"],
        config["log_every"],
        config["save_every"],
        config["precision"],
        config["evaluation"]["batch"],
        config["evaluation"]["unseen"],
        config["augment"],
        config["channels_last"],
        lambda parameters: build(parameters, **options),
    )


def _known(config: Mapping[str, Any], key: str, known: Sequence[str]) -> None:
    if config[key] not in known:
        raise UserError(
            f"{key} must be one of {', '.join(known)}; got {config[key]!r}; nearest: {nearest(str(config[key]), known)}"
        )


def _device(name: str) -> torch.device:
    _known({"device": name}, "device", ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda needs a GPU that torch sees; got none; pass device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _outcome(state: State, *, joint: bool) -> dict[str, Any]:
    """What the loop measured."""
    found = metrics.summary(state.matrix, state.initial)
    return {
        "accuracy": metrics.average_accuracy(state.matrix),
        "forgetting": None if joint else found["forgetting"],
        "summary": found,
        "matrix": [[None if v != v else v for v in row] for row in state.matrix.tolist()],
    }


def _result(config: Mapping[str, Any], learner: Any, stream: Stream, outcome: Mapping[str, Any]) -> dict[str, Any]:
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


def _bits(model: Modulated, stored: float) -> float | None:
    """Bits on disk for each masked weight of a task; None where nothing is masked."""
    masked = sum(
        math.prod(s.shape) for m in model.named_modulators().values() if isinstance(m.kind, Mask) for s in m.sites
    )
    return 8 * stored / masked if masked else None


def _unlabelled(model: Modulated, stream: Stream, wanted: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What the network makes of images whose task nobody says: every method measured, and one mixed batch shown."""
    found = inferred(model, stream, **wanted, seed=seed)
    result: dict[str, Any] = {"inference": found}
    methods = {name: one["task_and_class"] for name, one in found.items() if "task_and_class" in one}
    if not methods:
        return result
    best = max(methods, key=lambda name: methods[name])
    by, options = (
        (router(best, stream, wanted["routers"]), {})
        if best in ROUTERS
        else asked_by(model, stream, best, len(stream), seed)
    )
    return result | {
        "confidence": confidence(model, stream, wanted["images"], seed),
        "mixed": mixed(model, stream, by, options, seed) | {"method": best},
    }
