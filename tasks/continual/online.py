"""A stream that nobody divides into tasks: masks are allocated as its batches come (NNs of Wortsman et al. 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Bank, Modulated
from neuromod.inference import Standout, Verified
from tasks.config.build import add
from tasks.continual.allocation import Allocation
from tasks.continual.learners.modulated import Played
from tasks.continual.sequence import Plan, accuracy
from tasks.continual.streams import Stream
from tasks.errors import UserError, nearest
from tasks.runs.progress import Progress
from tasks.runs.run import Run
from tasks.runs.seeds import generator

RULES = ("standout", "verified")


@dataclass
class State:
    """Where an online run stands: batches seen, the mask in use, batches since it was taken up, its running loss."""

    seen: int = 0
    mask: int = -1
    since: int = 0
    loss: float = 0.0
    allocation: Allocation = field(default_factory=Allocation)


def lengths(stream: Stream, steps: int, jitter: float, seed: int) -> list[int]:
    """Batches of each task: ``steps``, or drawn from ``steps * (1 +- jitter)`` so that nobody knows when tasks switch."""
    drawn = torch.rand(len(stream), generator=generator("switches", seed), dtype=torch.float64)
    return [round(steps * (1 + jitter * (2 * float(u) - 1))) for u in drawn]


def online(
    played: Played, stream: Stream, plan: Plan, run: Run, *, options: Mapping[str, Any], seed: int, title: str
) -> tuple[Allocation, list[float]]:
    """Learn every batch with the mask that a rule gives it; returns what was allocated and the accuracy of each task.

    The rule is asked every ``every`` batches and, with a ``trigger``, where the loss of a batch is that many times the
    running mean of its mask; never in the first ``grace`` batches of a mask. A mask that is left is sealed: it is used
    again where the rule says so, and never trained again. Accuracy is under the mask that learned most of a task.
    """
    if options["rule"] not in RULES:
        rule = options["rule"]
        raise UserError(f"allocation.rule must be one of {RULES}; got {rule!r}; nearest: {nearest(str(rule), RULES)}")
    learner = _Online(played, stream, plan, options)
    counts = lengths(stream, plan.steps, options["jitter"], seed)
    sampler, progress = plan.sampler(stream, seed), Progress(title, sum(counts))
    learner.resume(run)
    place = 0
    for task, count in enumerate(counts):
        for step in range(max(learner.state.seen - place, 0), count):
            x, y, _ = sampler.draw(step, [task])
            value = learner.batch(task, x, y)
            if learner.state.seen % plan.log_every == 0:
                run.log(step=learner.state.seen, task=task, phase="train", loss=value, mask=learner.state.mask)
                progress.update(learner.state.seen, loss=value, masks=learner.model.tasks()[-1] + 1)
            if learner.state.seen % plan.save_every == 0:
                learner.save(run)
        place += count
    progress.close()
    played.eval()
    found = learner.state.allocation
    final = [
        accuracy(_Under(played, found.mask_of(t)), stream[t], t, plan.evaluation_batch) for t in range(len(stream))
    ]
    return found, final


class _Under:
    """A learner whose tasks are all played with one mask."""

    def __init__(self, played: Played, mask: int) -> None:
        self.played, self.mask = played, mask

    def __call__(self, x: Tensor, task: int) -> Tensor:
        logits: Tensor = self.played(x, self.mask)
        return logits


class _Online:
    """The masks so far, the one that is being learned, and the rule."""

    def __init__(self, played: Played, stream: Stream, plan: Plan, options: Mapping[str, Any]) -> None:
        self.played, self.plan, self.options, self.width = played, plan, options, stream.classes
        self.model: Modulated = played.model
        self.standout = Standout(options["eps"])
        self.verified = Verified(stream.classes, options["threshold"], options["best"])
        self.state, self.optimizer = State(), None
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
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        state.loss = value if state.since == 0 else 0.9 * state.loss + 0.1 * value
        state.since, state.seen = state.since + 1, state.seen + 1
        state.allocation.note(task, state.mask)
        return value

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        self.played.train()
        return nn.functional.cross_entropy(self.played(x, self.state.mask), y)

    def _due(self, loss: float) -> bool:
        every, trigger, state = self.options["every"], self.options["trigger"], self.state
        if state.since < max(self.options["grace"], 1):
            return False
        regular = every is not None and state.seen % every == 0
        return regular or (trigger is not None and loss > trigger * state.loss)

    def _decide(self, x: Tensor) -> int | None:
        self.played.eval()
        live = [t for t in self.model.tasks() if t not in self._sealed()]
        if self.options["rule"] == "standout":
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
        if mask is None:
            mask = max(self.model.tasks(), default=-1) + 1
            add(self.model, mask, self.width)
            self.optimizer = self.plan.optimizer(p for p in self.model.parameters() if p.requires_grad)
        else:
            self.optimizer = None
        state.mask, state.since = mask, 0

    def _sealed(self) -> set[int]:
        readers = [m for m in self.model.named_modulators().values() if m.reads == "task"]
        return set.intersection(*(set(m.sealed.places) for m in readers))

    def save(self, run: Run) -> None:
        """A checkpoint."""
        held = None if self.optimizer is None else self.optimizer.state_dict()
        state = vars(self.state) | {"allocation": self.state.allocation.runs}
        run.save({"model": self.played.state_dict(), "optimizer": held, "state": state}, self.state.seen)

    def resume(self, run: Run) -> None:
        """Go on from the run's checkpoint, if it has one."""
        found = run.load()
        run.rewind(0 if found is None else found[1])
        if found is None:
            return
        tree = found[0]
        self.played.load_state_dict(tree["model"])
        self.state = State(**tree["state"] | {"allocation": Allocation(tree["state"]["allocation"])})
        if tree["optimizer"] is not None:
            self.optimizer = self.plan.optimizer(p for p in self.model.parameters() if p.requires_grad)
            self.optimizer.load_state_dict(tree["optimizer"])
