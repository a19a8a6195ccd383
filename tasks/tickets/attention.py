"""One head of a trained attention found in a wider random head: images are read as sequences of their rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Modulated
from neuromod.tickets import HeadProducts, RandomHead, head_products, relative_error
from tasks.config.fields import Count, Number, Steps
from tasks.data.pixels import unit
from tasks.errors import UserError
from tasks.experiment import Bench, Result
from tasks.tickets.finding import Records, refuse_selection, timed
from tasks.tickets.training import TrainedFirst, predictions, share_right, unit_images


class RowReader(nn.Module):
    """Rows of an image as tokens, one layer of attention beside a skip, the mean over rows, a linear layer.

    Args:
        shape: of an image (C, H, W).
        outputs: classes.
        dimension: of the tokens.
        heads: of the attention.

    """

    def __init__(self, shape: tuple[int, int, int], outputs: int, dimension: int, heads: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.embed = nn.Linear(channels * width, dimension)
        self.places = nn.Parameter(torch.randn(height, dimension) / dimension**0.5)
        self.attention = nn.MultiheadAttention(dimension, heads, bias=False, batch_first=True)
        self.read = nn.Linear(dimension, outputs)

    def tokens(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to what the attention reads (B, H, dimension)."""
        tokens: Tensor = torch.tanh(self.embed(x.movedim(2, 1).flatten(2)) + self.places)
        return tokens

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits."""
        tokens = self.tokens(x)
        return self.classes(tokens, self.attention(tokens, tokens, tokens, need_weights=False)[0])

    def classes(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Tokens and what attention adds to them, (B, H, dimension), to logits."""
        logits: Tensor = self.read((tokens + attended).mean(1))
        return logits


@dataclass(frozen=True, kw_only=True)
class AttentionHead(TrainedFirst):
    """Train a network with one layer of attention on the rows of images, then find one of its heads in a random head.

    The headline is the largest relative error of what the head adds to its tokens, over test images. ``ticket.accuracy`` is that of
    the network with the found head in the place of its own.

    Args:
        dimension: of the tokens.
        heads: of the attention.
        head: which is found, from 0.
        optimizer: that trains the network.
        steps: of training.
        sequences: test images at which the error is measured.

    """

    dimension: Count = 32
    heads: Count = 4
    head: Number = 0
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"_target_": "torch.optim.Adam", "lr": 3e-3})
    steps: Steps = 1000
    sequences: Count = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimension % self.heads or self.head >= self.heads:
            raise UserError(
                f"heads share the {self.dimension} numbers of a token evenly, and one of them is found; got heads={self.heads}, "
                f"head={self.head}; take a divisor, and a head below it"
            )

    def fingerprint(self, bench: Bench) -> str:
        """That of the random head, which is drawn before anything is trained."""
        random, _ = bench.once(self._random)
        return random.target.fingerprint()

    def execute(self, bench: Bench) -> Result:
        """Train, find, and compare; goes on from the run's checkpoint."""
        refuse_selection(bench)
        found, (random, drawing) = unit_images(bench), bench.once(self._random)
        net = self.fit(RowReader, {"dimension": self.dimension, "heads": self.heads}, bench)
        assert isinstance(net, RowReader)
        products = [head_products(net.attention, head) for head in range(self.heads)]
        ticket, finding = timed(partial(random.find, products[self.head], tolerance=self.tolerance))
        model = random.model()
        ticket.put(model, 0)
        with torch.no_grad():
            tokens = net.tokens(unit(found.test_images[: self.sequences]))
        error = relative_error(model, 0, products[self.head], tokens)
        records = Records()
        records.add(ticket)
        before = predictions(net, found)
        after = predictions(partial(self._replaced, net, products, model), found)
        measures = {
            "ticket": {
                **records.account(model),
                "target_accuracy": share_right(before, found),
                "accuracy": share_right(after, found),
                "agreement": float((before == after).double().mean()),
                "largest_weight": max(float(one.layer.weight.abs().max()) for one in ticket.layers),
                "seconds": drawing + finding,
            }
        }
        return Result(
            "relative_error",
            error,
            "lower",
            records.costs(model),
            measures,
            trained=f"the target, {self.steps} steps",
        )

    def _random(self, bench: Bench) -> tuple[RandomHead, float]:
        random = RandomHead(self.dimension, self.n, self.spare, self.scale, bench.seeds["target"])
        _, seconds = timed(lambda: random.target.fingerprint())
        return random, seconds

    def _replaced(self, net: RowReader, products: list[HeadProducts], model: Modulated, x: Tensor) -> Tensor:
        """The network with the found head in the place of its own."""
        tokens = net.tokens(x)
        own = sum(head(tokens) for number, head in enumerate(products) if number != self.head)
        return net.classes(tokens, (own + model(tokens, task=0)).float())
