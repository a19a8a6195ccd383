"""A trained network found inside a random one: what the masks cost it in accuracy, and what they cost in seconds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuromod import Modulated
from neuromod.tickets import MLPTicket, RandomMLP, measured_error, shared_subset_sum, subset_sum, unit_ball
from neuromod.tickets.layers import read_layers
from tasks.config.fields import Count, Number
from tasks.data.image_set import ImageSet
from tasks.experiment import Bench, Result
from tasks.networks import mlp
from tasks.runs.seeds import generator
from tasks.tickets.finding import Records, refuse_selection, timed
from tasks.tickets.training import TrainedFirst, predictions, share_right, unit_images

PICTURED = 4  # hidden units whose weights a report shows


@dataclass(frozen=True, kw_only=True)
class Trained(TrainedFirst):
    """Train a fully connected network on images from 0 to 1, then find it in a random one that was drawn before.

    The headline is the change of its test accuracy in points, up or down.

    Args:
        hidden: units of its hidden layers.
        bias: whether it has biases.
        nonnegative_input: whether the random network has units for pixels of 0 and more only, half as many.
        samples: points of the unit ball at which the error is measured.
        row_tables: rows of the first layer that are solved again from candidates which all weights of a row share, and again from
            as many of each weight's own: seconds and errors of both.

    """

    hidden: Sequence[int] = (300, 100)
    bias: bool = False
    nonnegative_input: bool = True
    samples: Count = 1000
    row_tables: Number = 0

    def fingerprint(self, bench: Bench) -> str:
        """That of the random network, which is drawn before anything is trained."""
        random, _ = bench.once(self._random)
        return random.target.fingerprint()

    def execute(self, bench: Bench) -> Result:
        """Train, find, and compare; goes on from the run's checkpoint."""
        refuse_selection(bench)
        found, (random, drawing) = unit_images(bench), bench.once(self._random)
        net = self.fit(mlp, {"hidden": list(self.hidden), "bias": self.bias}, bench)
        ticket, finding = timed(partial(random.find, net, tolerance=self.tolerance))
        model = random.model()
        ticket.put(model, 0)
        x = unit_ball(self.samples, random.widths[0], seed=bench.seeds["sampling"], nonnegative=self.nonnegative_input)
        records = Records()
        records.add(ticket)
        measures: dict[str, Mapping[str, Any]] = {
            "ticket": {
                **records.account(model),
                **_compare(found, net, model),
                "certified": ticket.certificate(),
                "measured": measured_error(model, 0, net, x),
                "seconds": drawing + finding,
                "find_seconds": finding,
            },
            "ticket_pixels": _pictured(ticket, random.slots[0].owners[1], found.shape),
        }
        if self.row_tables:
            measures["ticket_rows"] = self._row_tables(bench, read_layers(net)[0].weight)
        return Result(
            "accuracy_change",
            abs(measures["ticket"]["accuracy"] - measures["ticket"]["target_accuracy"]) * 100,
            "lower",
            records.costs(model),
            measures,
            trained=f"the target, {self.steps} steps",
        )

    def _random(self, bench: Bench) -> tuple[RandomMLP, float]:
        found = unit_images(bench)
        widths = [math.prod(found.shape), *self.hidden, len(found.classes)]
        random = RandomMLP(
            widths, self.n, self.spare, self.bias, self.nonnegative_input, self.scale, bench.seeds["target"]
        )
        _, seconds = timed(lambda: random.target.fingerprint())
        return random, seconds

    def _row_tables(self, bench: Bench, weight: Tensor) -> dict[str, float]:
        """Candidates U[-c, c], c twice the largest weight, drawn once for each row or anew for each of its weights."""
        rng, rows = generator(bench.seeds["sampling"], "row tables"), weight[: self.row_tables]
        largest = 2 * float(weight.abs().max())
        drawn = [torch.rand(len(row), self.n, generator=rng) * 2 * largest - largest for row in rows]
        shared, seconds = timed(
            lambda: [shared_subset_sum(row, p[0])[1] - row for row, p in zip(rows, drawn, strict=True)]
        )
        own, own_seconds = timed(lambda: [subset_sum(row, p)[1] - row for row, p in zip(rows, drawn, strict=True)])
        return {
            "weights": rows.numel(),
            "shared_microseconds": 1e6 * seconds / rows.numel(),
            "own_microseconds": 1e6 * own_seconds / rows.numel(),
            "shared_worst": float(torch.cat(shared).abs().max()),
            "own_worst": float(torch.cat(own).abs().max()),
        }


def _compare(found: ImageSet, net: nn.Module, model: Modulated) -> dict[str, float]:
    before = predictions(net, found)
    model.eval()
    model.cache(0)
    after = predictions(partial(model, task=0), found)
    return {
        "target_accuracy": share_right(before, found),
        "accuracy": share_right(after, found),
        "agreement": float((before == after).double().mean()),
    }


def _pictured(ticket: MLPTicket, columns: Tensor, shape: tuple[int, ...]) -> dict[str, Any]:
    """Of some hidden units, what the target weighs each pixel with, and how many candidates of each pixel are kept.

    Args:
        ticket: of the target.
        columns: the pixel of each unit of the random network; one past the last pixel is its bias.
        shape: of an image.

    """
    layer = ticket.layers[0]
    weights, mask = layer.layer.weight[:PICTURED], layer.product.mask[:PICTURED]
    kept = torch.zeros(len(mask), math.prod(shape) + 1).index_add(1, columns, mask.float())[:, :-1]
    return {
        "weights": [(row.view(shape)[0] * 1000).round().int().tolist() for row in weights],
        "kept": [row.view(shape)[0].int().tolist() for row in kept],
    }
