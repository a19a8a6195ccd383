"""`Ticket`: a target found inside a random network: its masks, what they reach, and what that proves."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.arguments import instance, task_id
from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.tickets.certificate import certificate
from neuromod.tickets.layers import Layer
from neuromod.tickets.product import Product


@dataclass(frozen=True)
class Found:
    """One layer of a target, and the product that was found for it.

    Args:
        layer: of the target.
        product: its columns are the inputs, and one more for the bias where the random network has units for it.

    """

    layer: Layer
    product: Product

    @property
    def missed(self) -> Tensor:
        """``[A - W, B - W]``, or ``A - W`` where inputs are never negative: float64 (out, 2 in) or (out, in)."""
        width = self.layer.weight.shape[1]
        sides = [side for side in (self.product.plus, self.product.minus) if side is not None]
        return torch.cat([side[:, :width] - self.layer.weight for side in sides], dim=1)

    @property
    def missed_bias(self) -> Tensor:
        """``b~ - b``, float64 (out,)."""
        width = self.layer.weight.shape[1]
        found = self.product.plus[:, width:].sum(1)
        return found if self.layer.bias is None else found - self.layer.bias


@dataclass(frozen=True)
class Ticket:
    """The masks of one target in one random network, as a task of it.

    Args:
        fingerprint: of the random network (`Target.fingerprint`), which was taken before any weight of the target was read.
        row: the masks at one bit per weight, by ``site/bits``: a row at rest of `Threshold`.
        layers: what was found, layer by layer.

    """

    fingerprint: str
    row: dict[str, Tensor]
    layers: tuple[Found, ...]

    def put(self, model: Modulated, task: int) -> None:
        """Make the ticket a sealed task of a model over the same random network (`RandomMLP.model`, `RandomHead.model`).

        Refused: a model of another network, one whose one task modulator is not a mask on what the ticket masks, a known task.
        """
        instance(model, Modulated, "model")
        if model.target.fingerprint() != self.fingerprint:
            raise RefusedError(
                f"a ticket is of one random network; it was found in {self.fingerprint[:12]}, this model has "
                f"{model.target.fingerprint()[:12]}; put it into a model of its own network"
            )
        masks = [m for m in model.readers("task").values() if m.kind.is_mask and m.kind.binary]
        sites = {f"{site.label}/bits" for m in masks for site in m.sites}
        if len(masks) != 1 or len(model.named_modulators()) != 1 or sites != set(self.row):
            raise RefusedError(
                f"a ticket is a row of one mask modulator on {len(self.row)} tensors; this model has {list(model.named_modulators())} "
                f"on {len(sites)}; take the random network's own model()"
            )
        task = task_id(task)
        if task in model.tasks():
            raise RefusedError(f"a task is put in once; task {task} is there already; pick an id that is free")
        masks[0].sealed.seal(task, {key: bits.to(masks[0].like.device) for key, bits in self.row.items()})

    def errors(self) -> Tensor:
        """How far each sum is from the number that it stands for, float64; a weight at an input of both signs has two."""
        parts = [one.missed.flatten() for one in self.layers]
        return torch.cat(parts + [one.missed_bias for one in self.layers if one.layer.bias is not None]).abs()

    @property
    def weights(self) -> int:
        """Weights and biases of the target."""
        sizes = [
            one.layer.weight.numel() + (0 if one.layer.bias is None else len(one.layer.bias)) for one in self.layers
        ]
        return sum(sizes)

    @property
    def kept(self) -> int:
        """Candidates that the masks keep, over all weights; the one weight that each hidden unit keeps is not among them."""
        return sum(int(one.product.mask.sum()) for one in self.layers)

    @property
    def widened(self) -> int:
        """Weights that needed the spare units."""
        return sum(one.product.widened for one in self.layers)

    @property
    def missed(self) -> int:
        """Weights whose error is above the tolerance with the spare units as well."""
        return sum(one.product.missed for one in self.layers)


@dataclass(frozen=True)
class MLPTicket(Ticket):
    """The ticket of a network of Linear and ReLU layers, whose error on a ball is bounded."""

    def certificate(self, radius: float = 1.0) -> float:
        """A bound on ``max |f~(x) - f(x)|`` over ``|x| <= radius`` (`neuromod.tickets.certificate`).

        In a network drawn with ``nonnegative_input=True`` over the points of that ball that have no negative coordinate: of others
        its first layer sees nothing.
        """
        biases = [0.0 if one.layer.bias is None else float(one.layer.bias.norm()) for one in self.layers]
        return certificate(
            [_norm(one.layer.weight) for one in self.layers],
            [_norm(one.missed) for one in self.layers],
            radius=radius,
            biases=biases,
            bias_errors=[float(one.missed_bias.norm()) for one in self.layers],
        )


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, ord=2)) if matrix.numel() else 0.0
