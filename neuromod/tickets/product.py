"""A matrix as the product of two random ones of which masks keep a part: one exact subset sum for each of its weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.tickets.slots import Slots
from neuromod.tickets.subset_sum import subset_sum

BLOCK = 1 << 20  # candidates that are multiplied out at a time


@dataclass(frozen=True)
class Product:
    """What was found for one matrix.

    Args:
        mask: over the second random matrix, bool (out, units).
        plus: what stands for ``W x`` where x is positive, float64 (out, columns).
        minus: the same where x is negative; None where it never is, or where one slot serves both.
        widened: weights that were solved again with the spare units, for their error was above the tolerance.
        missed: those whose error still is.

    """

    mask: Tensor
    plus: Tensor
    minus: Tensor | None
    widened: int
    missed: int


# reason: the two random matrices, the matrix wanted, and how well
def find_product(
    weight: Tensor, first: Tensor, second: Tensor, slots: Slots, *, n: int, tolerance: float | None
) -> Product:
    """Choose, for each weight ``w_kj`` and each slot of input j, units i with ``sum_i u_i v_ki`` nearest to ``+-w_kj``.

    Args:
        weight: ``W``, float64 (out, columns).
        first: ``u``, the size of the one weight that each hidden unit keeps, float64 (units,).
        second: ``v``, (out, units).
        slots: which units carry which column.
        n: the units of a slot that are tried first; the rest is spare.
        tolerance: a larger error is tried again with all units of the slot; None leaves it.

    """
    out, each = len(weight), slots.units.shape[1]
    mask = torch.zeros(out, len(first), dtype=torch.bool)
    reached = torch.empty(out, len(slots.columns), dtype=torch.float64)
    widened = missed = 0
    rows = max(1, BLOCK // slots.units.numel())
    for start in range(0, out, rows):
        part = slice(start, min(start + rows, out))
        wanted = (weight[part][:, slots.columns] * slots.signs).flatten()
        drawn = (first * second[part].double())[:, slots.units].flatten(0, 1)
        chosen = torch.zeros(drawn.shape, dtype=torch.bool)
        chosen[:, :n], sums = subset_sum(wanted, drawn[:, :n])
        if tolerance is not None:
            again = ((sums - wanted).abs() > tolerance).nonzero().flatten()
            widened += len(again) if each > n else 0
            if each > n and len(again):
                chosen[again], sums[again] = subset_sum(wanted[again], drawn[again])
            missed += int(((sums - wanted).abs() > tolerance).sum())
        mask[part] = mask[part].scatter(
            1, slots.units.flatten().expand(len(mask[part]), -1), chosen.view(-1, slots.units.numel())
        )
        reached[part] = sums.view(-1, len(slots.columns)) * slots.signs
    plus = _spread(reached, slots, weight, 1.0)
    minus = _spread(reached, slots, weight, -1.0) if bool((slots.signs < 0).any()) else None
    return Product(mask, plus, minus, widened, missed)


def _spread(reached: Tensor, slots: Slots, like: Tensor, sign: float) -> Tensor:
    """What the slots of one side reached, by column; 0 where a column has no such side."""
    side = slots.signs == sign
    found = torch.zeros_like(like)
    found[:, slots.columns[side]] = reached[:, side]
    return found
