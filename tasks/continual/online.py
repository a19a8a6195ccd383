"""A stream that nobody divides into tasks: masks are allocated as its batches come (NNs of Wortsman et al. 2020)."""

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import fmean
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import neuromod
from neuromod import Bank
from neuromod.inference import Standout, Verified
from tasks.config.fields import Count, Range, Rate, Steps, Weight, fit_fields
from tasks.continual.allocation import Allocation
from tasks.continual.family import Continual, how, result
from tasks.continual.learners.base import accuracy, autocast
from tasks.continual.learners.modulated import Modulated
from tasks.continual.streams import Stream
from tasks.errors import UserError
from tasks.experiment import Bench, Result
from tasks.runs.loop import Number, loop
from tasks.runs.seeds import generator


@dataclass(frozen=True)
class AllocationRule:
    """Which rule decides whether a batch is of a known mask, and when.

    Args:
        rule: ``verified`` or ``standout`` (`neuromod.inference.Verified`, `Standout`).
        every: batches between decisions; None: not regularly.
        trigger: a decision too where the loss of a batch is so many times the running mean of its mask's; None: never for that.
        grace: not in the first so many batches of a mask.
        eps: of ``standout``.
        threshold: of ``verified``, in standard deviations.
        best: of ``verified``: candidates that it verifies.

    """

    rule: Literal["standout", "verified"] = "verified"
    every: Count | None = None
    trigger: Rate | None = 2.0
    grace: Steps = 30
    eps: Rate = 0.125
    threshold: Weight = 3.5
    best: Count = 8

    def __post_init__(self) -> None:
        fit_fields(self, "allocation")


@dataclass
class State:
    """Where an online run stands.

    Args:
        seen: batches so far.
        mask: the id of the mask in use; -1 before the first.
        since: batches since it was taken up.
        loss: the running mean of its losses, a tenth of each new one.
        allocation: which mask learned which batch.

    """

    seen: int = 0
    mask: int = -1
    since: int = 0
    loss: float = 0.0
    allocation: Allocation = field(default_factory=Allocation)


def lengths(stream: Stream, steps: int, jitter: float, seed: int) -> list[int]:
    """Batches of each task, so drawn that nobody knows when tasks switch.

    Args:
        stream: the tasks.
        steps: batches per task, on average.
        jitter: in [0, 1): a length is uniform in ``steps * (1 +- jitter)``; 0 draws nothing.
        seed: of the lengths.

    """
    drawn = torch.rand(len(stream), generator=generator("switches", seed), dtype=torch.float64)
    return [round(steps * (1 + jitter * (2 * float(u) - 1))) for u in drawn]


@dataclass(frozen=True, kw_only=True)
class Online(Continual):
    """Every batch learned with the mask that a rule gives it; nobody says where a task begins.

    A mask that is left is sealed: it is used again where the rule says so, and never trained again. Accuracy is under the
    mask that learned most of a task.

    Args:
        allocation: the rule, and when it decides.
        jitter: tasks take ``steps * (1 +- jitter)`` batches, in [0, 1).

    """

    allocation: AllocationRule = field(default_factory=AllocationRule)
    jitter: Annotated[float, Range(least=0, below=1)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluation.unseen:
            raise UserError("run=online tests all tasks at the end; got evaluation.unseen=true; pass run=sequence")
        self.without_regulariser("run=online seals each mask")

    def execute(self, bench: Bench) -> Result:
        """Learn the batches as they come; test every task at the end."""
        learner, stream = self.learn_by_task(bench, "run=online allocates modulations"), self.tasks(bench)
        masks, sampler = _Masks(self, learner, stream), self.sampler(bench)
        ends = list(accumulate(lengths(stream, self.steps, self.jitter, bench.seeds["data"])))

        def step(number: int) -> dict[str, Number]:
            task = bisect_right(ends, number)
            x, y, _ = sampler.draw(number - (ends[task - 1] if task else 0), [task])
            return {"task": task, "loss": masks.batch(task, x, y), "mask": masks.state.mask}

        loop(step, {"masks": masks}, bench, steps=ends[-1])
        learner.eval()
        found = masks.state.allocation
        options = self.evaluation.batch, self.precision

        def under(x: Tensor, task: int) -> Tensor:
            logits: Tensor = learner(x, found.mask_of(task))
            return logits

        final = [accuracy(under, task, number, *options) for number, task in enumerate(stream)]
        first = {"matrix": {"matrix": [final]}, "allocation": found.summary(range(len(stream)))}
        trained = how(learner, "in sequence")
        return result(learner, stream, fmean(final), trained, self.measured(learner, bench, first))


class _Masks:
    """The masks so far, the one that is being learned, and the rule."""

    def __init__(self, options: Online, learner: Modulated, stream: Stream) -> None:
        self.learner, self.rule, self.precision, self.width = (
            learner,
            options.allocation,
            options.precision,
            stream.classes,
        )
        self.model: neuromod.Modulated = learner.model
        self.optimiser = options.optimiser(lambda: (p for p in self.model.parameters() if p.requires_grad))
        self.standout = Standout(self.rule.eps)
        self.verified = Verified(stream.classes, self.rule.threshold, self.rule.best)
        self.state = State()
        self.bank: Bank | None = None

    def batch(self, task: int, x: Tensor, y: Tensor) -> float:
        """Find the mask of a batch, take a step with it, and return the loss before the step."""
        state = self.state
        if state.mask < 0:
            self._take(None)
        loss = self._loss(x, y)
        if self._due(float(loss.detach())):
            self._take(self._decide(x))
            loss = self._loss(x, y)
        value = float(loss.detach())
        if state.mask not in self._sealed():
            optimizer = self.optimiser.begin()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        state.loss = value if state.since == 0 else 0.9 * state.loss + 0.1 * value
        state.since, state.seen = state.since + 1, state.seen + 1
        state.allocation.note(task, state.mask)
        return value

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        self.learner.train()
        with autocast(self.precision, x.device):
            return cross_entropy(self.learner(x, self.state.mask), y)

    def _due(self, loss: float) -> bool:
        every, trigger, state = self.rule.every, self.rule.trigger, self.state
        if state.since < max(self.rule.grace, 1):
            return False
        regular = every is not None and state.seen % every == 0
        return regular or (trigger is not None and loss > trigger * state.loss)

    def _decide(self, x: Tensor) -> int | None:
        self.learner.eval()
        live = [t for t in self.model.tasks() if t not in self._sealed()]
        if self.rule.rule == "standout":
            return self.standout.decide(self.model, x, self.model.tasks())
        new = sorted(self._sealed() - set(self.bank.tasks if self.bank is not None else ()))
        if self.bank is not None:
            self.bank.grow(new)
        elif new:
            self.bank = Bank(self.model, new)
        known = self.bank.tasks if self.bank is not None else ()
        return self.verified.decide(self.model, x, known, self.bank, always=live)

    def _take(self, mask: int | None) -> None:
        """Go on with a mask, or with a new one (None)."""
        state = self.state
        if mask == state.mask:
            return
        if state.mask >= 0 and state.mask not in self._sealed():
            self.model.seal(state.mask)
        self.optimiser.end()
        if mask is None:
            mask = max(self.model.tasks(), default=-1) + 1
            self.learner.add(mask, self.width)
        state.mask, state.since = mask, 0

    def _sealed(self) -> set[int]:
        return set.intersection(*(set(m.sealed.places) for m in self.model.readers("task").values()))

    def state_dict(self) -> dict[str, Any]:
        """The masks, the optimiser of the one that is learned, and where the run stands."""
        state = vars(self.state) | {"allocation": self.state.allocation.runs}
        return {"learner": self.learner.state_dict(), "optimiser": self.optimiser.state_dict(), "state": state}

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Take up what `state_dict` gave: the run goes on with the mask that it stood at."""
        self.learner.load_state_dict(tree["learner"])
        self.state = State(**tree["state"] | {"allocation": Allocation(tree["state"]["allocation"])})
        self.optimiser.load_state_dict(tree["optimiser"])
