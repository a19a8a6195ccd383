"""Which rule to infer tasks by: the cheapest of those that are as good as any on a little labelled data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod import arguments
from neuromod.arguments import instance, shown
from neuromod.errors import RefusedError
from neuromod.inference.checks import check_inputs, check_tasks
from neuromod.inference.infer import InferenceRule, infer
from neuromod.modulated import Modulated


@dataclass(frozen=True)
class Choice:
    """What `choose` found.

    Args:
        rule: the one that was taken.
        reason: why, in a sentence with the numbers.
        tried: of each candidate (rule, accuracy in [0, 1], cost in forwards per query).

    """

    rule: InferenceRule
    reason: str
    tried: tuple[tuple[InferenceRule, float, float], ...]


def cost(rule: InferenceRule, tasks: int, group: int = 1) -> float:
    """Passes over the weights that a query takes, in forwards of one input; a backward counts as two.

    An inner product with a packed mask reads a bit for each weight and counts as 1/8 of a forward (`benchmarks/inference.py`
    measures it).

    Args:
        rule: how tasks are inferred.
        tasks: how many were learned.
        group: inputs of a query, which share a task.

    """
    gradient = 3 * group + tasks / 8
    return {
        "one_shot": gradient,
        "halving": gradient * max(math.ceil(math.log2(tasks)), 1) if tasks > 1 else gradient,
        "brute_force": float(group * tasks),
        "verified": gradient + group * min(rule.best, tasks),
    }[rule.method]


def candidates(real: int | None, outputs: int) -> tuple[InferenceRule, ...]:
    """Every method with its usual objectives; those of surplus outputs where there are some."""
    spare = real is not None and real < outputs
    names = ("margin", "entropy") if spare else ("entropy", "max_logit")
    one_shots = tuple(
        InferenceRule("one_shot", name, real=real) for name in (("entropy", "surplus") if spare else ("entropy",))
    )
    tried = tuple(InferenceRule(method, name, real=real) for method in ("verified", "brute_force") for name in names)
    return (*one_shots, InferenceRule("halving", "entropy", real=real), *tried)


def choose(
    model: Modulated,
    data: Mapping[int, Tensor],
    *,
    real: int | None = None,
    group: int = 1,
    rules: Sequence[InferenceRule] | None = None,
) -> Choice:
    """The cheapest rule whose accuracy is within a standard error of the best, on held-out inputs of each task.

    Args:
        model: with the learned tasks.
        data: of every learned task, two at least, a few of its inputs (N, ...), not test data.
        real: outputs that stand for classes; None: all.
        group: inputs in a row that share a task.
        rules: the candidates; by default those of `candidates`.

    """
    if len(instance(data, dict, "data, inputs by task,")) < 2:
        raise RefusedError(f"a choice needs data of two tasks at least; got {len(data)}; pass held-out inputs of each")
    tasks = check_tasks(model, list(data))
    for x in data.values():
        check_inputs(model, x)
    real = None if real is None else arguments.count(real, "real", least=1)
    if rules is not None and (not isinstance(rules, list | tuple) or not rules):
        raise RefusedError(
            f"rules are InferenceRules in a list, one at least; got {shown(rules)}; None takes the usual ones"
        )
    with torch.no_grad():
        outputs = model(next(iter(data.values())).narrow(model.target.batch_axis, 0, 1), task=tasks[0]).shape[-1]
    tried = []
    for rule in rules or candidates(real, outputs):
        right = [infer(model, x, rule, tasks=tasks, group=group).task.cpu() == task for task, x in data.items()]
        hits = torch.cat(right).double()
        tried.append((rule, float(hits.mean()), cost(rule, len(tasks), group), len(hits)))
    best = max(accuracy for _, accuracy, _, _ in tried)
    error = math.sqrt(max(best * (1 - best), 1e-12) / tried[0][3])
    rule, accuracy, price, count = min((t for t in tried if t[1] >= best - error), key=lambda t: t[2])
    reason = (
        f"{rule.method} by {rule.objective}: {accuracy:.3f} of {count} queries over {len(tasks)} tasks, within a standard "
        f"error ({error:.3f}) of the best ({best:.3f}), at {price:.0f} forwards per query, the fewest of those"
    )
    return Choice(rule, reason, tuple(t[:3] for t in tried))
