"""Which hidden unit carries which input: each keeps one of its random weights, and the sign of it says which side of the input."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

INTEGERS = NDArray[np.int64]


@dataclass(frozen=True)
class Slots:
    """The units of each side of each input: a slot.

    Args:
        units: hidden units, int64 (slots, units of a slot).
        columns: the input of each slot, int64 (slots,); one past the last input is the unit's own bias.
        signs: 1.0 for the side where the input is positive, -1.0 for the other, float64 (slots,).

    """

    units: Tensor
    columns: Tensor
    signs: Tensor

    @property
    def owners(self) -> tuple[Tensor, Tensor]:
        """Of each unit, in their order, its slot and its input."""
        slots = torch.empty(self.units.numel(), dtype=torch.long)
        slots[self.units.flatten()] = torch.arange(len(self.units)).repeat_interleave(self.units.shape[1])
        return slots, self.columns[slots]


def linear_slots(inputs: int, each: int) -> Slots:
    """Without a ReLU one slot serves both sides: unit i carries input ``i // each``."""
    return Slots(torch.arange(inputs * each).view(inputs, each), torch.arange(inputs), torch.ones(inputs).double())


def signed_slots(weights: Tensor, each: int, sides: Tensor) -> Slots | None:
    """Share out hidden units among inputs: a unit goes to the side of an input that its weight there has the sign of.

    A unit that finds no place takes that of another which can go where there is one. None where that does not help: such a layer
    must be drawn again.

    Args:
        weights: of the units, (units, columns).
        each: units for each side that wants some.
        sides: which sides, (negative, positive), of each column want units, bool (columns, 2).

    """
    positive = (weights > 0).numpy()
    rest = (sides.long() * each).numpy()
    owner: INTEGERS = np.full((len(positive), 2), -1)
    everywhere, homeless = np.arange(positive.shape[1]), []
    for unit, side in enumerate(positive.astype(np.int64)):
        column = int(rest[everywhere, side].argmax())
        if rest[column, side[column]] == 0:
            homeless.append(unit)
            continue
        owner[unit] = column, side[column]
        rest[column, side[column]] -= 1
    for unit in homeless:
        column, side_ = (int(found[0]) for found in rest.nonzero())
        can_leave = (owner[:, 0] >= 0) & (positive[:, column] == side_)
        mover = int((can_leave & (positive[unit][owner[:, 0]] == owner[:, 1])).argmax())
        if not (can_leave[mover] and positive[unit, owner[mover, 0]] == owner[mover, 1]):
            return None
        owner[unit], owner[mover] = owner[mover], (column, side_)
        rest[column, side_] -= 1
    wanted = np.argwhere(sides.numpy())
    places = np.lexsort((np.arange(len(owner)), owner[:, 1], owner[:, 0])).reshape(-1, each)
    return Slots(torch.from_numpy(places), torch.from_numpy(wanted[:, 0]), torch.from_numpy(2.0 * wanted[:, 1] - 1.0))
