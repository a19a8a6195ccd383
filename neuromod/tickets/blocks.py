"""A block of a random network: a layer of hidden units and a layer that reads them, and the masks of both."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuromod.kinds.bits import pack


@dataclass(frozen=True)
class Masks:
    """Masks of one block.

    Args:
        first: over ``U``, bool (units, in).
        bias: over the biases of the units, bool (units,); None where they have none.
        second: over ``V``, bool (out, units).

    """

    first: Tensor
    bias: Tensor | None
    second: Tensor

    def row(self, first: str, second: str) -> dict[str, Tensor]:
        """Them, packed, by ``site/bits``, for the layers called ``first`` and ``second``."""
        packed = {f"{first}/weight/bits": pack(self.first), f"{second}/weight/bits": pack(self.second)}
        return packed if self.bias is None else packed | {f"{first}/bias/bits": pack(self.bias)}


def masks_of(mask: Tensor, columns: Tensor, inputs: int, *, biased: bool) -> Masks:
    """The masks of a block: each unit that an output uses keeps the one weight of its input, all others keep nothing.

    Args:
        mask: over ``V``, bool (out, units).
        columns: the input of each unit; ``inputs`` means its bias.
        inputs: how many there are.
        biased: whether the first layer of the block has biases.

    """
    used = mask.any(0)
    whole = torch.zeros(mask.shape[1], inputs + 1, dtype=torch.bool)
    whole[torch.arange(len(columns)), columns] = used
    return Masks(whole[:, :inputs], whole[:, inputs] if biased else None, mask)


def random_linear(inputs: int, outputs: int, *, scale: float = 1.0, bias: bool = False) -> nn.Linear:
    """A layer whose numbers are all ``U[-scale, scale]``, biases as well, from torch's global generator (a `Recipe` seeds it).

    Args:
        inputs: of the layer.
        outputs: of the layer.
        scale: the largest size of a number.
        bias: whether it has biases.

    """
    layer = nn.Linear(inputs, outputs, bias=bias)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -scale, scale)
    return layer
