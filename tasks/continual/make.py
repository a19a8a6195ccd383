"""From a resolved config to what an experiment runs on: stream, target, learner, plan, device."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, get_method
from torch import nn

from neuromod import Recipe, Target
from tasks.config.build import modulated, regulariser
from tasks.continual.learners import OPTIONS, baseline
from tasks.continual.learners.modulated import Played
from tasks.continual.learners.routed import restore, routed
from tasks.continual.sequence import SCHEDULES, Plan
from tasks.continual.streams import AUGMENT, Stream, held_out
from tasks.data.load import load
from tasks.data.prepare import prepared
from tasks.errors import UserError, nearest
from tasks.networks.trained import trained

GROWING = ("bank", "online")
METHODS = ("modulated", "routed", *OPTIONS)


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
    _known(config, "schedule", tuple(SCHEDULES))
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


def make_device(name: str) -> torch.device:
    """The device of a name: ``auto`` is a GPU where torch sees one. UserError for ``cuda`` without one."""
    _known({"device": name}, "device", ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda needs a GPU that torch sees; got none; pass device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
