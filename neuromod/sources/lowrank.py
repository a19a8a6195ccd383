"""`LowRank`: rows are mixtures of a basis that all tasks share."""

import math
from collections.abc import Iterable
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from neuromod.arguments import count
from neuromod.sources.base import Rows, Starts
from neuromod.sources.context import Context
from neuromod.sources.shared import Options, Shared, bind_offset, embeddings, spread_of


class LowRank(Shared):
    """``row = offset + sum_r mix_r basis_r``, ``basis`` (rank, *shape) for each raw number.

    The mix of a task is learned and starts at zero; the mix of a condition, an input or an activation is a linear map,
    zero at the start, of a body's features. Basis vectors are drawn at the spread of the kind's start.

    Args:
        rank: number of basis vectors.
        reads: ``"task"``, ``"condition"``, ``"input"``, ``"activation:NAME"``, or ``"nothing"`` (one embedding for all).
        tasks: tasks to start with, where it reads the task.
        options: what a `Hypernet` takes beside its own, ``body``, ``hidden``, ``embedding``, ``labels`` and ``learn_body``,
            with the same meaning.

    """

    def __init__(
        self,
        rank: int = 4,
        reads: str = "task",
        tasks: int | Iterable[int] = 1,
        **options: Unpack[Options],
    ) -> None:
        rank = count(rank, "rank, the vectors of a basis,", least=1)
        width = rank if isinstance(reads, str) and reads in ("task", "nothing") else None
        super().__init__(embeddings(reads, tasks, options, width=width, zero=True), options)
        self.rank = rank
        self.mix: nn.Parameter | None = None
        self.basis = nn.ParameterDict()

    def arguments(self) -> dict[str, Any]:
        return {"rank": self.rank} | super().arguments()

    def bind(self, starts: Starts) -> None:
        self.codes.bind(starts)
        if self.reads not in ("task", "nothing"):
            codes = self.codes.example(starts)
            features = self.bind_body(starts, codes)
            self.mix = nn.Parameter(torch.zeros(self.rank, features, device=starts.device, dtype=starts.dtype))
        bind_offset(self.offset, starts, starts.shapes)
        for key, start in self.offset.named_buffers():
            self.bind_basis(key, start, spread_of(start) or 1 / math.sqrt(start.shape[-1]), starts)

    def bind_basis(self, key: str, start: Tensor, spread: float, starts: Starts) -> None:
        """Draw the basis of some numbers.

        Args:
            key: of the numbers, ``"site/part"``.
            start: where they start.
            spread: of the vectors of a basis.
            starts: gives generators.

        """
        drawn = torch.randn(self.rank, *start.shape, generator=starts.generator("basis", key))
        self.basis[key] = nn.Parameter((drawn * spread).to(start))

    def mixes(self, context: Context) -> tuple[Tensor, Tensor | None]:
        """The mixes of distinct rows (rows, rank), and the row that each sample uses."""
        mix, index = self.codes(context)
        if self.mix is not None and self.body is not None:
            mix = nn.functional.linear(self.body(mix), self.mix)
        return mix, index

    def forward(self, context: Context) -> Rows:
        mix, index = self.mixes(context)
        offset: dict[str, Tensor] = dict(self.offset.named_buffers())
        return Rows({key: _mixed(mix, basis, offset[key]) for key, basis in self.basis.items()}, index)


def _mixed(mix: Tensor, basis: Tensor, offset: Tensor) -> Tensor:
    """``offset + mix basis`` in one pass over the rows: for a row per sample they are large."""
    flat = torch.addmm(offset.reshape(1, -1), mix, basis.flatten(1))
    return flat.reshape(len(mix), *offset.shape)
