"""Adaptation to one task by inner steps: of all weights (MAML), or of a context beside them (CAVIA)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from neuromod.meta import SGD, Episodes, Functional, cavia, maml
from tasks.config.fields import Count, Rate, fit_fields

Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Maml:
    """All weights are fast (Finn et al. 2017).

    Args:
        rate: of the inner steps, > 0.
        steps: of them, 1 or more.
        order: 2 differentiates through the steps, 1 does not.

    """

    rate: Rate
    steps: Count
    order: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        fit_fields(self, "adapt")

    @property
    def context_size(self) -> int:
        """Numbers of a context that the network must take beside its input."""
        return 0

    def __call__(self, net: nn.Module, episodes: Episodes, criterion: Criterion, *, answers: bool = False) -> Tensor:
        """The loss (T,) of each task on its query set after the inner steps on its support set, or its answers there.

        Args:
            net: its parameters are slow; all of them are fast here, in `Cavia` a context alone.
            episodes: support and query sets, trees whose first axis is the task.
            criterion: outputs and labels of one set to a scalar.
            answers: return the outputs (T, Q, ...) on the query sets in the place of the losses.

        """
        declared = Functional(net, "*")
        answer, loss = _asked(lambda fast, x: declared(fast, x), criterion)
        options: dict[str, Any] = {"steps": self.steps, "order": self.order}
        options |= {"judge": answer} if answers else {}
        return maml(loss, declared.start(), episodes, SGD(self.rate), **options)


@dataclass(frozen=True, kw_only=True)
class Cavia(Maml):
    """Only a context of ``context`` numbers is fast, which starts at 0 (Zintgraf et al. 2019)."""

    context: Count

    @property
    def context_size(self) -> int:
        """Numbers of a context that the network must take beside its input."""
        return self.context

    def __call__(self, net: nn.Module, episodes: Episodes, criterion: Criterion, *, answers: bool = False) -> Tensor:
        """As of `Maml`."""
        answer, loss = _asked(lambda fast, x: net(x, fast["context"]), criterion)
        options: dict[str, Any] = {"steps": self.steps, "order": self.order, "like": next(net.parameters())}
        options |= {"judge": answer} if answers else {}
        return cavia(loss, self.context, episodes, SGD(self.rate), **options)


def _asked(
    forward: Callable[[Mapping[str, Tensor], Tensor], Tensor], criterion: Criterion
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def answer(fast: Mapping[str, Tensor], batch: Any) -> Any:
        return forward(fast, batch[0])

    def loss(fast: Mapping[str, Tensor], batch: Any) -> Tensor:
        return criterion(answer(fast, batch), batch[1])

    return answer, loss
