"""Whether masks would have been allocated right, had the tasks of a bank come without their numbers: NNs, replayed on a full bank."""

from typing import Any

from neuromod import Bank
from neuromod.inference import Standout, Verified
from tasks.config.fields import Count, Rate, Weight
from tasks.continual import learners
from tasks.continual.streams import Stream, batches
from tasks.experiment import Bench
from tasks.runs.seeds import generator

BATCH = 128


def measure(
    learner: Any,
    stream: Stream,
    bench: Bench,
    *,
    every: Count | None = None,
    eps: Rate = 0.125,
    threshold: Weight = 3.5,
    best: Count = 8,
) -> dict[str, Any] | None:  # reason: options of a config, of both rules
    """Whether a batch of task k is found to be new before its mask is there, and known after; for every so manieth
    task.

    Both rules of `neuromod.inference.allocation` decide on one batch of 128 training images of task k, over the masks
    of tasks 0 to k - 1 (right is: new) and over those of 0 to k (right is: k). ``new`` and ``known`` are the shares of
    right decisions, ``masks`` is how many would have been allocated for ``tasks`` tasks, ``mistakes`` the wrong ones.

    Args:
        every: k is a multiple of it; None: nothing is measured.
        eps: of `Standout`.
        threshold: of `Verified`, in standard deviations.
        best: of `Verified`: candidates that it verifies.

    """
    if every is None or not isinstance(learner, learners.Modulated):
        return None
    model, seed = learner.model, bench.seeds["sampling"]
    rules: dict[str, Standout | Verified] = {
        "standout": Standout(eps),
        "verified": Verified(stream.classes, threshold, best),
    }
    places = list(range(max(every, 1), len(stream), every))
    right: dict[str, dict[str, int]] = {name: {"new": 0, "known": 0} for name in rules}
    bank = Bank(model, [0])
    for k in places:
        bank.grow(range(len(bank), k))
        x, _ = next(batches(stream[k], BATCH, generator("replay", seed, k), steps=1))
        for name, rule in rules.items():
            right[name]["new"] += rule.decide(model, x, bank.tasks, bank) is None
        bank.grow([k])
        for name, rule in rules.items():
            right[name]["known"] += rule.decide(model, x, bank.tasks, bank) == k
    count = len(places)
    return {
        name: {
            "tasks": count,
            "new": found["new"] / count,
            "known": found["known"] / count,
            # A known batch that is not recognised gets one mask more, a new one that is not gets none.
            "masks": found["new"] + count - found["known"],
            "mistakes": 2 * count - found["new"] - found["known"],
        }
        for name, found in right.items()
    }
