"""What all searches for tickets have in common: how wide the random network is, and what is said of a ticket."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from neuromod import Modulated
from neuromod.tickets import Ticket
from tasks.config.fields import Range, Rate, fit_fields
from tasks.errors import UserError
from tasks.experiment import Bench, Costs
from tasks.tickets import drawing

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Options of the random network and of the search in it (`neuromod.tickets.RandomMLP`).

    Args:
        n: candidates of each weight.
        spare: units more for weights whose error is above the tolerance.
        scale: largest size of the second of the two random numbers of a candidate.
        tolerance: the largest error of a weight; null: every error is taken.

    """

    n: Annotated[int, Range(least=2, most=26)] = 20
    spare: Annotated[int, Range(least=0, most=28)] = 4
    scale: Rate = 1.0
    tolerance: Rate | None = 1e-3

    def __post_init__(self) -> None:
        fit_fields(self, "run")

    draw = staticmethod(drawing.sections)


def refuse_selection(bench: Bench) -> None:
    """UserError under `select`: a search is exact, and has nothing to choose on held-out images."""
    if bench.held_out is not None:
        raise UserError(
            "a ticket is found exactly, nothing of it is chosen on held-out images; select has none to choose"
        )


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """What is made, and the seconds of this process, of all its threads together, that it took."""
    began = time.process_time()
    made = make()
    return made, time.process_time() - began


class Records:
    """What is counted of each ticket of a run, in their order, as a checkpoint keeps it."""

    def __init__(self) -> None:
        self.each: list[dict[str, Any]] = []

    def add(self, ticket: Ticket, **more: float) -> None:
        """Count a ticket; ``more`` is what else was measured of it."""
        errors = ticket.errors()
        counted = {
            "weights": ticket.weights,
            "candidates": sum(one.product.mask.numel() for one in ticket.layers),
            "kept": ticket.kept,
            "widened": ticket.widened,
            "missed": ticket.missed,
            "median_error": float(errors.median()),
            "worst_error": float(errors.max()),
        }
        self.each.append({**counted, **more})

    def account(self, model: Modulated) -> dict[str, Any]:
        """Over all tickets, with what the random network and the masks of one of them take."""
        first, *_ = self.each
        total = {key: sum(one[key] for one in self.each) for key in ("weights", "kept", "widened", "missed")}
        return {
            "weights": first["weights"],
            "candidates": first["candidates"],
            "frozen": sum(p.numel() for p in model.target.pristine.parameters()),
            "bytes_per_task": model.bytes_per_task(0),
            "kept_per_weight": total["kept"] / total["weights"],
            "widened": total["widened"],
            "missed": total["missed"],
            "median_error": first["median_error"],
            "worst_error": max(one["worst_error"] for one in self.each),
        }

    def costs(self, model: Modulated) -> Costs:
        """The mask of one ticket, a bit for each number of the random network that all share."""
        found = self.account(model)
        own, frozen = found["bytes_per_task"], found["frozen"]
        return Costs(frozen, own, frozen, own + 4 * frozen / len(self.each))

    def state_dict(self) -> Any:
        """The counts."""
        return {"each": self.each}

    def load_state_dict(self, state: Any) -> None:
        """Take them up again."""
        self.each = list(state["each"])
