"""`Hypernet`: raw numbers computed by a small network from an embedding."""

import math
from collections.abc import Iterable
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from neuromod.arguments import count
from neuromod.errors import RefusedError
from neuromod.sources.base import Rows, Starts
from neuromod.sources.context import Context
from neuromod.sources.shared import Options, Shared, bind_offset, embeddings, spread_of


class Hypernet(Shared):
    """``row = offset + spread * head(body(e))``; or, where a kind generates whole tensors, ``row = scale * head(...)``.

    ``e`` is the embedding of the task, or the condition, the input or the activation that is read. The offset is the kind's
    start, or the target's own value under ``identity=True``; the head then starts at zero, and
    ``spread`` is the standard deviation of the offset (1 where it is constant), so that one learning rate serves scores of
    .04 and gains of 1. Rows without an offset start at the fan-in scale of their layer (Chang et al. 2020). Chunked (von
    Oswald et al. 2020, section 3): the body reads (e, chunk embedding) and one head gives ``chunk`` numbers at a time, so
    that the hypernetwork can be smaller than what it generates.

    Args:
        reads: ``"task"``, ``"condition"``, ``"input"``, ``"activation:NAME"``, or ``"nothing"`` (one embedding for all).
        tasks: tasks to start with, where it reads the task.
        chunk: numbers of a chunk; None gives every raw number a row of the head, of its own.
        chunk_code: width of a chunk's embedding (its name in configs and stored files).
        options: as of every shared source (`shared.Options`): ``body``, any module (rows, ...) to (rows, features) or a
            function that makes one (which a `Store` needs, to make it again); ``hidden=64``, the width or widths of the default
            body; ``embedding=16``, the width of a task's embedding, or the width or shape of a condition, with None in front for the
            axis of a support set, whose items go through the body one by one and are averaged (`SetEncoder`); ``labels=n``,
            where the condition is an integer in [0, n) (a class, a question, a previous task), one-hot; ``learn_body=False``
            keeps the body as it was drawn or given.

    """

    def __init__(
        self,
        reads: str = "task",
        tasks: int | Iterable[int] = 1,
        *,
        chunk: int | None = None,
        chunk_code: int = 8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(embeddings(reads, tasks, options), options)
        self.chunk = None if chunk is None else count(chunk, "chunk, the numbers of a chunk,", least=1)
        self.chunk_code = count(chunk_code, "chunk_code", least=1)
        self.head, self.shift, self.chunks = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.scales: dict[str, float] = {}

    def arguments(self) -> dict[str, Any]:
        return {"chunk": self.chunk, "chunk_code": self.chunk_code} | super().arguments()

    def bind(self, starts: Starts) -> None:
        self.codes.bind(starts)
        self.shapes = dict(starts.shapes)
        self.scales = {key: 0.0 if starts.own else scale for key, scale in starts.scales.items()}
        codes = self.codes.example(starts)
        if self.chunk is not None:
            codes = self._with_chunks(codes, starts)
        features = self.bind_body(starts, codes)
        bind_offset(self.offset, starts, [key for key, scale in self.scales.items() if scale == 0])
        free = all(self.scales.values())
        self.scales |= {key: spread_of(offset) or 1.0 for key, offset in self.offset.named_buffers()}
        offset = dict(self.offset.named_buffers())
        for key in self.shapes if self.chunk is None else ("chunk",):
            size = self.chunk or math.prod(self.shapes[key])
            drawn = torch.randn(size, features, generator=starts.generator("head", key)) / math.sqrt(features)
            weight = drawn if (free if self.chunk else key not in offset) else torch.zeros(size, features)
            self.head[key] = nn.Parameter(weight.to(starts.device, starts.dtype))
            self.shift[key] = nn.Parameter(torch.zeros(size, device=starts.device, dtype=starts.dtype))

    def forward(self, context: Context) -> Rows:
        codes, index = self.codes(context)
        assert self.body is not None
        flat = self._whole(codes) if self.chunk is None else self._chunked(codes)
        offset = dict(self.offset.named_buffers())
        values = {}
        for key, shape in self.shapes.items():
            value = flat[key].unflatten(1, shape) if shape else flat[key].squeeze(1)
            scaled = value * self.scales[key] if self.scales[key] != 1 else value
            values[key] = scaled + offset[key] if key in offset else scaled
        return Rows(values, index)

    def _whole(self, codes: Tensor) -> dict[str, Tensor]:
        assert self.body is not None
        features = self.body(codes)
        return {key: nn.functional.linear(features, self.head[key], self.shift[key]) for key in self.shapes}

    def _chunked(self, codes: Tensor) -> dict[str, Tensor]:
        assert self.body is not None
        embeddings = torch.cat([self.chunks[key] for key in self.shapes])
        rows, count = len(codes), len(embeddings)
        pairs = torch.cat([codes.repeat_interleave(count, 0), embeddings.repeat(rows, 1)], 1)
        pieces = nn.functional.linear(self.body(pairs), self.head["chunk"], self.shift["chunk"])
        counts = [len(self.chunks[key]) for key in self.shapes]
        parts = pieces.unflatten(0, (rows, count)).split(counts, 1)
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        return {key: part.flatten(1)[:, :n] for key, part, n in zip(self.shapes, parts, sizes, strict=True)}

    def _with_chunks(self, codes: Tensor, starts: Starts) -> Tensor:
        if codes.ndim != 2:
            raise RefusedError(
                f"a chunked hypernetwork reads a vector (task or condition); got embeddings of shape {tuple(codes.shape)}"
            )
        assert self.chunk is not None
        for key, shape in self.shapes.items():
            size = (-(-math.prod(shape) // self.chunk), self.chunk_code)
            drawn = torch.randn(size, generator=starts.generator("chunk", key))
            self.chunks[key] = nn.Parameter(drawn.to(starts.device, starts.dtype))
        return torch.cat([codes, codes.new_zeros(len(codes), self.chunk_code)], 1)
