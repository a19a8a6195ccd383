"""How well the network tells which task an unlabelled image belongs to."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from neuromod import Modulated
from neuromod.bank import Bank
from neuromod.inference import OBJECTIVES, Calibration, Rule, calibrate_rule, infer
from neuromod.inference.infer import METHODS
from neuromod.inference.routers import Linear, RandomFeatures, Router, Signature, Subspaces, classify, task_scores
from tasks.continual.measures.recall import SETTINGS, recalled
from tasks.continual.streams import Stream
from tasks.errors import UserError, nearest
from tasks.runs.seeds import generator

ROUTERS: Mapping[str, Callable[..., Router]] = MappingProxyType(
    {
        "router_signature": lambda **_: Signature(),
        "router_subspaces": lambda rank=20, **_: Subspaces(rank),
        "router_lda": lambda units=1000, **_: Linear("lda", RandomFeatures(units)),
        "router_ridge": lambda units=1000, **_: Linear("ridge", RandomFeatures(units)),
    }
)
CALIBRATED, FIRST = "calibrated_", "_first"
HELD = 256  # training images of each task that a calibration is fitted on
SHOWN = 50  # tasks up to which a result holds the confusion of every pair


@dataclass(frozen=True)
class Named:
    """A rule by the name that a config gives it: ``[calibrated_]METHOD[_OBJECTIVE][_first]``."""

    method: str
    objective: str
    calibrated: bool
    first: bool


def check_method(name: str) -> None:
    """Refuse an unknown method: before the training whose end would use it."""
    if name not in ROUTERS and name not in SETTINGS:
        named(name)


def named(name: str) -> Named:
    """The rule of a name; without an objective it is entropy. ``_first`` takes the gradient at the first masked tensor."""
    rest = name.removeprefix(CALIBRATED)
    short = rest.removesuffix(FIRST)
    for method in METHODS:
        objective = short.removeprefix(method).removeprefix("_") or "entropy"
        if short.startswith(method) and objective in OBJECTIVES:
            return Named(method, objective, rest != name, short != rest)
    known = [*METHODS, *ROUTERS, *SETTINGS, *(f"{m}_{o}" for m in METHODS for o in OBJECTIVES)]
    raise UserError(f"a method of task inference must be known; got {name!r}; nearest: {nearest(name, known)}")


@dataclass(frozen=True, eq=False)
class Queries:
    """Test images of every task, drawn at random: ``x`` (N, ...), labels ``y`` (N,), the true task ``task`` (N,)."""

    x: Tensor
    y: Tensor
    task: Tensor
    each: int

    @classmethod
    def draw(cls, stream: Stream, images: int, seed: int, tasks: int | None = None) -> "Queries":
        """``images`` of each of the first tasks (fewer where a task has fewer), in a drawn order."""
        some = stream.tasks[:tasks]
        count = min(images, *(len(task.test) for task in some))
        xs, ys, ids = [], [], []
        for number, task in enumerate(some):
            order = torch.randperm(len(task.test), generator=generator("queries", seed, number))[:count]
            order = order.to(task.test.images.device)
            xs.append(task.view(task.test.images[order]))
            ys.append(task.test.labels[order])
            ids.append(torch.full_like(ys[-1], number))
        return cls(torch.cat(xs), torch.cat(ys), torch.cat(ids), count)


def inferred(
    model: Modulated,
    stream: Stream,
    *,
    methods: Sequence[str],
    images: int,
    group: int,
    groups: Sequence[int] = (),
    at: Sequence[int] = (),
    routers: Mapping[str, Router] = MappingProxyType({}),
    seed: int = 0,
) -> dict[str, Any]:
    """What every method finds (`measure`) on ``images`` random test images a task, a query an image.

    ``groups`` are more sizes of groups that share a task. ``at`` lists numbers of tasks k: each method is measured as well
    over the first k tasks alone, under ``at.k``. A method ``router_NAME`` asks no mask: statistics of the training images of
    each task find it (`neuromod.inference.routers`), and ``routers`` holds it as it learned them (`router`); ``own_class`` is
    then the share of images that the router classifies right by itself, ``gain_over`` how much more often it finds the task
    than each other method.
    Methods ``hopfield...`` ask for the task of a whole test set (`tasks.continual.measures.recall`).
    """
    model.eval()
    queries = Queries.draw(stream, images, seed)
    found: dict[str, Any] = {}
    hits: dict[str, Tensor] = {}
    for name in methods:
        if name in SETTINGS:
            found[name] = recalled(model, stream, name, seed)
            continue
        if name in ROUTERS:
            found[name], hits[name] = _routed(model, stream, queries, routers[name], (group, *groups))
            continue
        found[name], hits[name] = _found(model, stream, queries, name, len(stream), (group, *groups), seed)
        for count in at:
            part = queries if count == len(stream) else Queries.draw(stream, images, seed, count)
            small, _ = _found(model, stream, part, name, count, (group,), seed)
            kept = {key: value for key, value in small.items() if key != "confusion"}
            found[name].setdefault("at", {})[str(count)] = kept
    for name in (n for n in methods if n in ROUTERS):
        found[name]["gain_over"] = {other: _gain(hits[name], hits[other]) for other in hits if other not in ROUTERS}
    return found


def _gain(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """How much more often we are right on the same images, and that in standard errors of the paired difference."""
    difference = ours.double() - theirs.double()
    error = float(difference.std()) / math.sqrt(len(difference))
    return {"points": float(difference.mean()), "standard_errors": float(difference.mean()) / max(error, 1e-9)}


def scenarios(found: Mapping[str, Any]) -> dict[str, float]:
    """The scenarios of von Oswald et al. 2020 (section 4) from what one method found, on the same images.

    CL1: the task is known. CL2: it is inferred, and tasks share their classes. CL3: it is inferred, and every task has
    classes of its own, so that both must be right. By ``brute_force`` the task is that of least entropy (HNET+ENT).
    """
    return {"CL1": found["known"], "CL2": found["class"], "CL3": found["task_and_class"]}


def measure(
    model: Modulated, queries: Queries, guess: Tensor, grouped: Mapping[int, Tensor], tasks: int
) -> dict[str, Any]:
    """What guesses of the task are worth.

    ``image``: share of images whose task is found. ``class``: class accuracy under the task that was found (GNs of Wortsman
    et al. 2020, shared labels). ``task_and_class``: task and class both right (GNu, labels of each task its own). ``known``:
    class accuracy where the task is told (GG), on the same images. ``groups``: share of groups that share a task, by size.
    """
    guess = guess.to(queries.task.device)
    hit = guess == queries.task
    right = predicted(model, queries.x, guess) == queries.y
    known = right if bool(hit.all()) else predicted(model, queries.x, queries.task) == queries.y
    result: dict[str, Any] = {
        "image": float(hit.double().mean()),
        "class": float(right.double().mean()),
        "task_and_class": float((right & hit).double().mean()),
        "known": float(known.double().mean()),
        "images_per_task": queries.each,
    }
    sizes = {}
    for size, answer in grouped.items():
        truth = queries.task.view(-1, queries.each)[:, : queries.each // size * size].reshape(-1, size)[:, 0]
        sizes[str(size)] = float((answer.to(truth.device) == truth).double().mean())
    first = next(iter(sizes), None)
    result |= {"group": sizes[first] if first else None, "group_size": int(first) if first else None, "groups": sizes}
    if tasks <= SHOWN:
        confusion = torch.zeros(tasks, tasks, dtype=torch.float64)
        confusion.index_put_((queries.task.cpu(), guess.cpu()), torch.ones(len(guess)).double(), accumulate=True)
        result["confusion"] = [[round(v, 6) for v in row] for row in (confusion / queries.each).tolist()]
    return result


@torch.no_grad()
def predicted(model: Modulated, x: Tensor, task: Tensor, chunk: int = 100_000) -> Tensor:
    """The class of each image under the task of each."""
    parts = [model(a, task=b).argmax(1) for a, b in zip(x.split(chunk), task.split(chunk), strict=True)]
    return torch.cat(parts)


def asked_by(model: Modulated, stream: Stream, name: str, count: int, seed: int) -> tuple[Rule, dict[str, Any]]:
    """The rule of a name over the first ``count`` tasks, and the options of `infer` that belong to it."""
    tasks, asked = list(range(count)), named(name)
    with torch.no_grad():
        bank = None if asked.method == "brute_force" else Bank(model, tasks)
    sites = (next(iter(bank.mean())),) if asked.first and bank is not None else None
    rule = Rule(asked.method, asked.objective, sites, max(task.classes for task in stream))
    calibration = _calibration(model, stream, rule, tasks, seed) if asked.calibrated else None
    return rule, {"tasks": tasks, "bank": bank, "calibration": calibration}


def _found(
    model: Modulated,
    stream: Stream,
    queries: Queries,
    name: str,
    count: int,
    sizes: Sequence[int],
    seed: int,
) -> tuple[dict[str, Any], Tensor]:
    rule, options = asked_by(model, stream, name, count, seed)
    single = infer(model, queries.x, rule, **options)
    groups = {}
    for size in (s for s in sizes if s <= queries.each):
        if rule.method in ("brute_force", "one_shot"):
            groups[size] = _summed(single.scores, queries, size)
        else:
            whole = queries.x.unflatten(0, (-1, queries.each))[:, : queries.each // size * size].flatten(0, 1)
            groups[size] = infer(model, whole, rule, group=size, **options).task
    result = measure(model, queries, single.task, groups, count) | {"lead": lead(single.scores, queries.task)}
    return result, single.task == queries.task


def lead(scores: Tensor, task: Tensor) -> float | None:
    """How far the score of the true task stands above the best other, in standard deviations of the others; the mean.

    Scores (B, k), true places (B,). None where a method does not score every task, or there are fewer than three.
    """
    if scores.shape[1] < 3 or not bool(torch.isfinite(scores).all()):
        return None
    own = scores.gather(1, task[:, None])
    others = scores.scatter(1, task[:, None], float("nan"))
    rest = others[~others.isnan()].view(len(scores), -1)
    return float(((own.squeeze(1) - rest.amax(1)) / rest.std(1).clamp(min=1e-30)).double().mean())


@torch.no_grad()
def confidence(model: Modulated, stream: Stream, images: int, seed: int) -> dict[str, float]:
    """The largest probability of the output, its mean over test images: under their own task and under the next one."""
    queries = Queries.draw(stream, images, seed)
    asked = {"own": queries.task, "other": (queries.task + 1) % len(stream)}
    found = {}
    for name, task in asked.items():
        parts = zip(queries.x.split(10_000), task.split(10_000), strict=True)
        found[name] = float(torch.cat([torch.softmax(model(x, task=t), 1).amax(1) for x, t in parts]).double().mean())
    return found


def router(name: str, stream: Stream, options: Mapping[str, int]) -> Router:
    """A router of `ROUTERS` that has learned every task of a stream."""
    made = ROUTERS[name](**options)
    for number, task in enumerate(stream):
        made.learn(number, task.view(task.train.images), task.train.labels)
    return made


def _routed(
    model: Modulated,
    stream: Stream,
    queries: Queries,
    learned: Router,
    sizes: Sequence[int],
) -> tuple[dict[str, Any], Tensor]:
    scores = task_scores(learned, queries.x)
    guess = scores.argmax(1)
    groups = {size: _summed(scores, queries, size) for size in sizes if size <= queries.each}
    result = measure(model, queries, guess, groups, len(stream))
    task, label = classify(learned, queries.x)
    own, (each, shared) = label == queries.y, learned.bytes()
    result |= {
        "own_class": float(own.double().mean()),
        "own_both": float((own & (task == queries.task)).double().mean()),
    }
    return result | {"bytes_per_task": each, "bytes_shared": shared}, guess == queries.task


def _summed(scores: Tensor, queries: Queries, size: int) -> Tensor:
    """The best task (a place) of every group of images of one task, their scores summed."""
    whole = scores.unflatten(0, (-1, queries.each))[:, : queries.each // size * size]
    return whole.reshape(-1, size, scores.shape[1]).sum(1).argmax(1)


def _calibration(model: Modulated, stream: Stream, rule: Rule, tasks: Sequence[int], seed: int) -> Calibration:
    """Fitted on training images; masks have seen some of them, at most two or three times."""
    data = {}
    for number in tasks:
        task = stream[number]
        order = torch.randperm(len(task.train), generator=generator("calibration", seed, number))[:HELD]
        data[number] = task.view(task.train.images[order.to(task.train.images.device)])
    return calibrate_rule(model, data, rule)
