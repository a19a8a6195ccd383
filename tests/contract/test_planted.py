"""The test of the test: kinds that are wrong on purpose fail the contract."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from neuromod import Modulated, Site
from neuromod.kinds import Conceptor, Threshold
from neuromod.kinds.base import Edits, Now, Raw
from tests.contract import laws, laws_of_others
from tests.contract.cells import CONFIGS, Cell, cell

LEAK: dict[str, Tensor] = {}


@dataclass(frozen=True)
class Leaky(Threshold):
    """Adds a little of the first scores that it ever saw: task 0 leaks into all others."""

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        first = LEAK.setdefault(site.name, raw["score"]) if "score" in raw and raw["score"].device.type != "meta" else 0
        return {site.name: super().edits(site, raw, now)[site.name] + 0.01 * first}


@dataclass(frozen=True)
class Moving(Threshold):
    """Writes into the target."""

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        with torch.no_grad():
            if now[site.name].device.type != "meta":
                now[site.name].add_(1e-6)
        return super().edits(site, raw, now)


@dataclass(frozen=True)
class Stopped(Threshold):
    """Has no gradient for masked-out weights: regrowth is impossible."""

    def mask(self, site: Site, raw: Raw) -> Tensor:
        mask = super().mask(site, raw)
        return mask * mask.detach()


@dataclass(frozen=True)
class Drawing(Threshold):
    """Draws from the global generator."""

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        torch.rand(())
        return super().edits(site, raw, now)


@dataclass(frozen=True)
class Loud(Threshold):
    """Is no identity while gradients are asked for."""

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        edits = super().edits(site, raw, now)
        return {n: v * (1.001 if v.requires_grad else 1.0) for n, v in edits.items()}


@dataclass(frozen=True)
class Counting(Threshold):
    """Does a little more with every row that it sees: what comes first in a batch is changed least."""

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        seen = LEAK.setdefault("seen", torch.zeros(()))
        seen += 1
        return {site.name: super().edits(site, raw, now)[site.name] * (1 + 1e-3 * seen)}


@dataclass(frozen=True)
class Triangular(Conceptor):
    """Mixes by the half that it holds, and not by the whole matrix."""

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        return {
            name: value.triu() if value.ndim > 1 else value for name, value in super().edits(site, raw, now).items()
        }


@dataclass(frozen=True)
class Doubled(Conceptor):
    """Leaves twice the output where it should leave it as it is."""

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        return {name: 2 * value for name, value in super().edits(site, raw, now).items()}


def planted(kind: Any) -> Cell:
    base = Conceptor if isinstance(kind, Conceptor) else Threshold
    name = base.__name__.lower()
    config = {name: {**CONFIGS[f"{name}_table"][name], "kind": {"_target_": f"neuromod.{base.__name__}"}}}
    made = cell(config, "mlp")

    class Planted(Cell):
        def model(self, **options: Any) -> Modulated:
            model = super().model(**options)
            model.modulators[name].kind = kind
            LEAK.clear()
            return model

    return Planted(made.config, made.net, made.x, made.condition)


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Leaky(), laws.mixed_equals_singles_equals_slow),
        (Moving(), laws.training_reaches_every_parameter_and_not_the_target),
        (Stopped(), laws.mixed_equals_singles_equals_slow),
        (Drawing(), laws_of_others.nothing_of_others_moves),
        (Loud(), laws_of_others.identity_is_the_users_network_in_eval),
        (Counting(), laws.order_is_irrelevant),
        (Triangular(), laws.mixed_equals_singles_equals_slow),
        (Doubled(), laws.identity_is_exact),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_wrong_kind_fails(kind: Any, law: Callable[[Cell], None]) -> None:
    law(planted(Conceptor() if isinstance(kind, Conceptor) else Threshold()))
    with pytest.raises((AssertionError, ValueError, RuntimeError)):
        law(planted(kind))
