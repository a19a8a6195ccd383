"""`Subspace`: a few numbers of a task, spread over all sites by a fixed random map that nobody stores."""

from collections.abc import Iterable
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from neuromod.arguments import count
from neuromod.sources.base import Rows, Starts
from neuromod.sources.context import Context
from neuromod.sources.lowrank import LowRank
from neuromod.sources.shared import Options


class Subspace(LowRank):
    """``row_i = offset_i + spread * sign_i * z_{j(i)}``: each raw number is one of ``size`` numbers of the task, with a drawn sign.

    The subspace is random and fixed, drawn from the modulator's seed and the same for all tasks, so a task is ``z`` (size,) alone, over
    all sites together: 13 numbers in bfloat16 are 26 bytes. Training in a random subspace is Li et al. 2018 (eq. 2); one vector for all
    layers, each number of which is handed out whole, so that the map is a gather and no matrix, is Uni-LoRA (Li et al. 2025); rows tied
    across layers down to 13 numbers are TinyLoRA (2026). ``z`` starts at zero, the kind's start; of a condition, an input or an
    activation it is a linear map of a body's features, as the mix of a `LowRank`. A task that is sealed is its whole row.

    Args:
        size: numbers of a task.
        reads: ``"task"``, ``"condition"``, ``"input"``, ``"activation:NAME"``, or ``"nothing"`` (one vector for all).
        tasks: tasks to start with, where it reads the task.
        options: those of `LowRank`.

    """

    def __init__(
        self, size: int = 13, reads: str = "task", tasks: int | Iterable[int] = 1, **options: Unpack[Options]
    ) -> None:
        super().__init__(count(size, "size, the numbers of a subspace,", least=1), reads, tasks, **options)
        self.places, self.signs = nn.Module(), nn.Module()

    def arguments(self) -> dict[str, Any]:
        said = super().arguments()
        return {"size": said.pop("rank")} | said

    def bind_basis(self, key: str, start: Tensor, spread: float, starts: Starts) -> None:
        """Draw which number each raw number is of, and with which sign."""
        rng = starts.generator("subspace", key)
        places = torch.randint(self.rank, start.shape, generator=rng)
        signs = (torch.randint(2, start.shape, generator=rng) * 2 - 1).to(start)
        self.places.register_buffer(key, places.to(start.device), persistent=False)
        self.signs.register_buffer(key, signs * spread, persistent=False)

    def forward(self, context: Context) -> Rows:
        mix, index = self.mixes(context)
        offset, signs = dict(self.offset.named_buffers()), dict(self.signs.named_buffers())
        rows = {key: offset[key] + mix[:, places] * signs[key] for key, places in self.places.named_buffers()}
        return Rows(rows, index)
