"""Networks drawn at random from what people write: they sort, fold, split, route, tie, checkpoint, drop, keep and put out structures."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

WIDTH, SIZE = 6, 5
"""Channels, and samples in a batch; frames are as many as samples, so that shapes alone tell nothing."""


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.act = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Tanh()

    def forward(self, h: Tensor) -> Any:
        return self.act(self.norm(self.layer(h)))


class Sorted(Plain):
    """Sorts the samples, as packed sequences are, and puts them back."""

    def forward(self, h: Tensor) -> Any:
        order = h.sum((1, 2)).argsort()
        return super().forward(h[order])[order.argsort()]


class Flipped(Plain):
    def forward(self, h: Tensor) -> Any:
        return super().forward(h.flip(0)).flip(0)


class Folded(Plain):
    """Folds frames into the batch."""

    def forward(self, h: Tensor) -> Any:
        return super().forward(h.flatten(0, 1)).unflatten(0, h.shape[:2])


class FoldedOnes(Plain):
    """Folds one frame into the batch: in front it looks like the batch."""

    def forward(self, h: Tensor) -> Any:
        return h + super().forward(h.mean(1, keepdim=True).flatten(0, 1)).unsqueeze(1)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.norm = nn.GRU(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        return self.norm(self.rnn(h.transpose(0, 1))[0]).transpose(0, 1)


class Routed(nn.Module):
    """Two experts, each with the samples that are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Plain(), Plain()

    def forward(self, h: Tensor) -> Tensor:
        out, mine = torch.zeros_like(h), h[:, 0, 0] > 0
        for expert, chosen in ((self.one, mine), (self.two, ~mine)):
            if bool(chosen.any()):
                out = out.index_put((chosen.nonzero()[:, 0],), expert(h[chosen]))
        return out


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.out.weight = self.into.weight

    def forward(self, h: Tensor) -> Tensor:
        return self.out(torch.tanh(self.into(h)))


class Checkpointed(Plain):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, h: Tensor) -> Any:
        if self.reentrant is None:
            return super().forward(h)
        return checkpoint(super().forward, h, use_reentrant=self.reentrant)


class Dropping(Plain):
    """Drops out by function, and its whole layer now and then."""

    def forward(self, h: Tensor) -> Any:
        kept = 0 if self.training and random.random() < 0.5 else 1
        return h + kept * F.dropout(super().forward(h), 0.5, self.training)


class Attention(nn.MultiheadAttention):
    """torch's attention with a dropout of its own behind it."""

    def __init__(self) -> None:
        super().__init__(WIDTH, 2, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:  # type: ignore[override]
        return F.dropout(super().forward(h, h, h, need_weights=False)[0], 0.5, self.training)


class OfTheBatch(Plain):
    """Normalises over the samples at hand: they meet."""

    def forward(self, h: Tensor) -> Any:
        return super().forward((h - h.mean(0)) / (h.var(0, unbiased=False) + 0.1).sqrt())


class Narrow(Plain):
    """Computes in float32 inside a network of float64."""

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        return super()._apply(lambda t: t.float() if t.is_floating_point() else t, recurse)

    def forward(self, h: Tensor) -> Any:
        return super().forward(h.float()).to(h.dtype)


class Keeping(Plain):
    """Counts its calls in a buffer, keeps what it put out, and a bias that it derived once."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.table = nn.Parameter(torch.zeros(3, WIDTH))
        self.kept: dict[str, Tensor] = {}

    def forward(self, h: Tensor) -> Any:
        self.calls += 1
        if "bias" not in self.kept:
            self.kept["bias"] = self.table.sum(0)
        self.last = super().forward(h) * (1 + 0.1 * self.calls) + self.kept["bias"]
        return self.last


class Renormed(nn.Module):
    """Looks up what it rescales in place."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, WIDTH, max_norm=0.5)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.table((h[..., 0] > 0).long() + 2 * (h[..., 1] > 0).long())


class Appending(Plain):
    """Appends rows of its own to the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward(self, h: Tensor) -> Any:
        return super().forward(torch.cat([h, self.token.expand(1, h.shape[1], WIDTH)]))[: len(h)]


class Inplace(Plain):
    def forward(self, h: Tensor) -> Any:
        return super().forward(h.clone().mul_(2)).mul(0.5).add_(1)


class Pair(NamedTuple):
    h: Tensor
    rest: Any


@dataclass
class Holder:
    h: Tensor
    rest: Any


class Structured(nn.Module):
    """A block that puts out a structure."""

    def __init__(self, wrap: Callable[[Tensor], Any], read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.block, self.read = Wrapped(wrap), read

    def forward(self, h: Tensor) -> Tensor:
        return self.read(self.block(h))


class Wrapped(Plain):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, h: Tensor) -> Any:
        return self.wrap(super().forward(h))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "sorted": Sorted,
    "flipped": Flipped,
    "folded": Folded,
    "folded_ones": FoldedOnes,
    "time_first": TimeFirst,
    "routed": Routed,
    "tied": Tied,
    "checkpoint": lambda: Checkpointed(False),
    "reentrant": lambda: Checkpointed(True),
    "dropping": Dropping,
    "attention": Attention,
    "of_the_batch": OfTheBatch,
    "narrow": Narrow,
    "keeping": Keeping,
    "renormed": Renormed,
    "appending": Appending,
    "inplace": Inplace,
    "pair": lambda: Structured(lambda h: Pair(h, None), lambda o: o.h),
    "dict": lambda: Structured(lambda h: {"h": h, "n": 1}, lambda o: o["h"]),
    "holder": lambda: Structured(lambda h: Holder(h, "text"), lambda o: o.h),
}
OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda y: y,
    "tuple": lambda y: (y, None, 2.0),
    "dict": lambda y: {"y": y, "also": [y.mean(-1), "text"]},
    "pair": lambda y: Pair(y, (y.mean(-1), None)),
    "holder": lambda y: Holder(y, {"none": None}),
}


class Drawn(nn.Module):
    """Blocks in a row, each added to what went in, between a linear layer and a head."""

    def __init__(self, blocks: list[str], output: str, writes: bool) -> None:
        super().__init__()
        self.into = nn.Linear(3, WIDTH)
        self.blocks = nn.ModuleList(BLOCKS[name]() for name in blocks)
        self.head = nn.Linear(WIDTH, 4)
        self.output, self.writes = OUTPUTS[output], writes

    def forward(self, x: Tensor) -> Any:
        if self.writes:
            x.mul_(1.5)
        h = self.into(x)
        for block in self.blocks:
            h = h + block(h)
        return self.output(self.head(h.mean(1)))
