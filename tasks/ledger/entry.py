"""One row before it is run: what is run, which number is reported, and what it is held to."""

from dataclasses import dataclass
from typing import Literal

from tasks.runs.files import canonical, digest

Verdict = Literal["held", "missed", "no bar"]


@dataclass(frozen=True)
class Bar:
    """What the mean over the seeds is held to: mean ``op`` value, or mean - (mean of the row ``above``) ``op`` value.

    Args:
        op: ``>=`` or ``<=``.
        value: in the metric's unit.
        above: the id of another row; None: the bar is for the mean itself.

    """

    op: Literal[">=", "<="]
    value: float
    above: str | None = None

    def __str__(self) -> str:
        return f"{self.op} {self.value:g}" + (f" above {self.above}" if self.above else "")

    def holds(self, mean: float, beside: float | None = None) -> bool:
        """Whether a mean is on the right side; ``beside`` is the mean of the row `above`."""
        mean -= beside or 0.0
        return mean >= self.value if self.op == ">=" else mean <= self.value


@dataclass(frozen=True)
class Published:
    """A number of a paper.

    Args:
        value: in the metric's unit.
        source: paper and table or page.
        note: what differs from our setting.

    """

    value: float
    source: str
    note: str = ""


@dataclass(frozen=True)
class Form:
    """How a row is asked for.

    Args:
        experiment: name of its config.
        overrides: ``key=value``, in their order.
        metric: path of the number in a run's result (`tasks.ledger.metric.number`).

    """

    experiment: str
    overrides: tuple[str, ...]
    metric: str


@dataclass(frozen=True)
class Entry:
    """One row before it is run: an experiment with overrides and seeds, the number that is reported, and its bar.

    Args:
        row: its id.
        title: for people.
        experiment: name of its config.
        overrides: ``key=value``, in their order.
        seeds: one run each.
        metric: path of the number in a run's result.
        bar: what the mean is held to, if anything.
        published: a paper's number to stand beside it.
        note: for people.
        was: the form under which it was run, where experiment, overrides or metric are spelt otherwise today: the
            digest is over that form, so sealed rows stay what they are.
        not_run: the reason why the ledger has no such row; '' where it has one.

    """

    row: str
    title: str
    experiment: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    metric: str
    bar: Bar | None = None
    published: Published | None = None
    note: str = ""
    was: Form | None = None
    not_run: str = ""

    @property
    def form(self) -> Form:
        """Experiment, overrides and metric as they are spelt today, whatever they were when the row ran."""
        return Form(self.experiment, self.overrides, self.metric)

    @property
    def sha256(self) -> str:
        """SHA-256 of all that a result depends on or is held against: everything but the title and the notes."""
        form = self.was or self.form
        held_to = None if self.bar is None else [self.bar.op, self.bar.value, *([self.above] if self.above else [])]
        beside = None if self.published is None else [self.published.value, self.published.source, self.published.note]
        parts = [self.row, form.experiment, form.overrides, self.seeds, form.metric, held_to, beside]
        return digest(canonical(parts))

    @property
    def above(self) -> str | None:
        """The row whose mean is subtracted before the bar is applied."""
        return None if self.bar is None else self.bar.above

    @property
    def family(self) -> str:
        """The first part of the experiment's name: rows of a family share a page."""
        return self.experiment.split("/")[0]

    def overrides_of(self, seed: int) -> list[str]:
        """The overrides of the command that runs one seed today."""
        return [f"experiment={self.experiment}", *self.overrides, f"seed={seed}"]

    def verdict(self, mean: float, beside: float | None = None) -> Verdict:
        """Whether the bar is held; ``beside`` is the mean of the row `above`."""
        if self.bar is None:
            return "no bar"
        return "held" if self.bar.holds(mean, beside) else "missed"
