"""What an online allocation of masks did: which mask each batch was learned with, beside its true task."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Allocation:
    """The mask of every batch beside its true task, run by run: ``[task, mask, batches]`` in the order of the stream."""

    runs: list[list[int]] = field(default_factory=list)

    def note(self, task: int, mask: int) -> None:
        """Count one more batch of a true ``task`` that was learned with ``mask``, both ids."""
        if self.runs and self.runs[-1][:2] == [task, mask]:
            self.runs[-1][2] += 1
        else:
            self.runs.append([task, mask, 1])

    def mask_of(self, task: int) -> int:
        """The mask that learned most batches of a task."""
        counts: Counter[int] = Counter()
        for owner, mask, batches in self.runs:
            if owner == task:
                counts[mask] += batches
        return counts.most_common(1)[0][0]

    def late(self) -> int:
        """Batches that were learned with a mask that is mostly another task's, before a switch was noticed."""
        owners = {mask: self._owner(mask) for _, mask, _ in self.runs}
        return sum(batches for task, mask, batches in self.runs if owners[mask] != task)

    def summary(self, tasks: Sequence[int]) -> dict[str, Any]:
        """``masks`` allocated, true ``tasks``, ``mistakes``, and ``late`` batches.

        A mistake is a mask that is the main one of several tasks (each but the first counts), or a mask more than one that
        is mainly a task's (likewise).
        """
        masks = sorted({mask for _, mask, _ in self.runs})
        main, owned = Counter(self.mask_of(t) for t in tasks), Counter(self._owner(m) for m in masks)
        mistakes = sum(n - 1 for n in main.values()) + sum(n - 1 for n in owned.values())
        return {"masks": len(masks), "tasks": len(tasks), "mistakes": mistakes, "late": self.late(), "runs": self.runs}

    def _owner(self, mask: int) -> int:
        counts: Counter[int] = Counter()
        for task, used, batches in self.runs:
            if used == mask:
                counts[task] += batches
        return counts.most_common(1)[0][0]
