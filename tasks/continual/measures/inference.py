"""How well the network tells which task an unlabelled image belongs to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from neuromod import Modulated
from neuromod.inference import infer
from neuromod.inference.predictors import Predictor, classify, task_scores
from tasks.config.fields import Count
from tasks.continual import learners
from tasks.continual.measures.queries import Queries, by_group, judge, lead
from tasks.continual.measures.recall import SETTINGS, task_recall
from tasks.continual.measures.rules import check_method, is_predictor, predictor, rule_of
from tasks.continual.streams import Stream
from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.report import figures
from tasks.report.panels import Section, grids
from tasks.report.read import Run
from tasks.report.table import percent


def measure(
    learner: Any,
    stream: Stream,
    bench: Bench,
    *,
    methods: Sequence[str] = (),
    images: Count = 256,
    group: Count = 16,
    groups: Sequence[Count] = (),
    at: Sequence[Count] = (),
    predictors: Mapping[str, Count] = MappingProxyType({}),
) -> dict[str, Any] | None:  # reason: options of a config: methods, and how many queries
    """What every method finds (`tasks.continual.measures.queries.judge`) on random test images, one query per image.

    A method ``predictor_NAME`` tries no mask: statistics of the training images of each task find it
    (`neuromod.inference.predictors`); ``own_class`` is then the share of images that the predictor classifies right by itself,
    ``gain_over`` how much more often it finds the task than each other method. Methods ``hopfield...`` infer the task of a
    whole test set (`tasks.continual.measures.recall`).

    Args:
        learner: a modulated network; nothing is found of others.
        stream: the tasks.
        bench: its seed ``sampling`` draws the images.
        methods: ``[calibrated_]METHOD[_OBJECTIVE][_first]``, ``predictor_NAME`` or the dotted
            path of a predictor, ``hopfield[_remedy]``.
        images: of each task, fewer where a task has fewer.
        group: images of one task in a query.
        groups: more such sizes.
        at: numbers of tasks k: each method is measured as well over the first k tasks alone, under ``at.k``.
        predictors: ``rank`` of subspaces, ``units`` of random features.

    """
    if not methods or not isinstance(learner, learners.Modulated):
        return None
    seed = bench.seeds["sampling"]
    learned = {n: learned_predictor(n, stream, bench, predictors) for n in methods if is_predictor(n)}
    return task_inference(learner.model, stream, QueryPlan(images, (group, *groups), tuple(at)), methods, learned, seed)


def check_options(methods: Sequence[str] = (), **_: Any) -> None:
    """Refuse unknown methods before the training at whose end they are used; ``_`` are options that are not checked here."""
    for name in methods:
        check_method(name)


def check_stream(stream: Stream, *, methods: Sequence[str] = (), at: Sequence[int] = (), **_: Any) -> None:
    """Refuse more first tasks than the stream has, where a method is measured over them.

    Args:
        stream: the tasks.
        methods: none: nothing is measured.
        at: numbers of tasks.
        _: options that are not checked here.

    """
    if methods and (beyond := [count for count in at if count > len(stream)]):
        raise UserError(
            f"inference.at counts first tasks of the stream, which has {len(stream)}; got {beyond[0]}; "
            f"pass inference.at=[], or numbers of {len(stream)} at most"
        )


def learned_predictor(name: str, stream: Stream, bench: Bench, options: Mapping[str, int]) -> Predictor:
    """The predictor of a name, fitted once for all measures of a run.

    Args:
        name: ``predictor_NAME``, one of `tasks.continual.measures.rules.PREDICTORS`.
        options: ``rank`` of subspaces, ``units`` of random features; those that a predictor has no use for are passed
            over.

    """
    return bench.once(lambda _: predictor(name, stream, options), ("predictor", name))


@dataclass(frozen=True)
class QueryPlan:
    """How many queries, of how many images.

    Args:
        images: per task.
        sizes: images per group of one task, for each size that is measured.
        at: numbers of tasks k: measured over the first k tasks alone as well.

    """

    images: int
    sizes: tuple[int, ...]
    at: tuple[int, ...] = ()


def task_inference(
    model: Modulated,
    stream: Stream,
    plan: QueryPlan,
    methods: Sequence[str],
    predictors: Mapping[str, Predictor],
    seed: int,
) -> dict[str, Any]:  # the questions, who answers them, and their seed
    """What every method finds, by its name (`tasks.continual.measures.queries.judge`).

    Args:
        plan: how many queries.
        methods: by the names that a config gives them; UserError for one that is not known.
        predictors: fitted, for each ``predictor_NAME`` among the methods.

    """
    model.eval()
    queries = Queries.draw(stream, plan.images, seed)
    found: dict[str, Any] = {}
    hits: dict[str, Tensor] = {}
    for name in methods:
        check_method(name)
        if name in SETTINGS:
            found[name] = task_recall(model, stream, name, seed)
            continue
        if is_predictor(name):
            found[name], hits[name] = _by_predictor(model, stream, queries, predictors[name], plan.sizes)
            continue
        found[name], hits[name] = _by_rule(model, stream, queries, name, plan.sizes, seed)
        for count in plan.at:
            part = queries if count == len(stream) else Queries.draw(stream, plan.images, seed, count)
            small, _ = _by_rule(model, stream, part, name, plan.sizes[:1], seed)
            kept = {key: value for key, value in small.items() if key != "confusion"}
            found[name].setdefault("at", {})[str(count)] = kept
    for name in (n for n in methods if is_predictor(n)):
        others = {other: hits[other] for other in hits if not is_predictor(other)}
        found[name]["gain_over"] = {other: _gain(hits[name], theirs) for other, theirs in others.items()}
    return found


def _gain(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """How much more often we are right on the same images, and that in standard errors of the paired difference."""
    difference = ours.double() - theirs.double()
    error = float(difference.std()) / math.sqrt(len(difference))
    return {"points": float(difference.mean()), "standard_errors": float(difference.mean()) / max(error, 1e-9)}


def _by_rule(
    model: Modulated,
    stream: Stream,
    queries: Queries,
    name: str,
    sizes: Sequence[int],
    seed: int,
) -> tuple[dict[str, Any], Tensor]:
    rule, options = rule_of(model, stream, name, queries.tasks, seed)
    single = infer(model, queries.x, rule, **options)
    groups = {}
    for size in (s for s in sizes if s <= queries.each):
        if rule.method in ("brute_force", "one_shot"):
            groups[size] = by_group(single.scores, queries, size)
        else:
            whole = queries.x.unflatten(0, (-1, queries.each))[:, : queries.each // size * size].flatten(0, 1)
            groups[size] = infer(model, whole, rule, group=size, **options).task
    result = judge(model, queries, single.task, groups) | {"lead": lead(single.scores, queries.task)}
    return result, single.task == queries.task


def _by_predictor(
    model: Modulated,
    stream: Stream,
    queries: Queries,
    learned: Predictor,
    sizes: Sequence[int],
) -> tuple[dict[str, Any], Tensor]:
    scores = task_scores(learned, queries.x)
    guess = scores.argmax(1)
    groups = {size: by_group(scores, queries, size) for size in sizes if size <= queries.each}
    result = judge(model, queries, guess, groups)
    task, label = classify(learned, queries.x)
    own, (each, shared) = label == queries.y, learned.bytes()
    result |= {
        "own_class": float(own.double().mean()),
        "own_both": float((own & (task == queries.task)).double().mean()),
    }
    return result | {"bytes_per_task": each, "bytes_shared": shared}, guess == queries.task


def summary(found: Mapping[str, Any]) -> list[str]:
    """A line for each method."""
    lines = []
    for method, one in found.items():
        groups = "".join(f", {share:.4f} for {size}" for size, share in one.get("groups", {}).items())
        lines.append(f"task inference by {method}: {one['image']:.4f} for one image{groups}; class {one['class']:.4f}")
    return lines


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Which task was inferred for the inputs of which task."""

    def grids_of(run: Run) -> list[tuple[str, figures.Grid, str]]:
        out: list[tuple[str, figures.Grid, str]] = []
        for method, result in run.measure("inference").items():
            if "confusion" not in result:  # hundreds of tasks are no picture
                continue
            shares = [[v / (sum(row) or 1) for v in row] for row in result["confusion"]]
            groups = "".join(f", {percent(share)} % from {size}" for size, share in result["groups"].items())
            out.append((f", {method}", shares, f"Right: {percent(result['image'])} % from one image{groups}."))
        return out

    panels = grids(runs, names, "share of inputs", grids_of, ("true task", "inferred task"), (0.0, 1.0))
    caption = "The task inferred for the inputs of each true task, as shares of the row; the diagonal is right."
    return [Section("inference", "Which task is this?", caption, tuple(panels))] if panels else []
