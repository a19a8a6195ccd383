"""BatchEnsemble as a continual learner: shared weights learned with the first task, a rank-one factor for every task."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuromod import Rank1, Target
from neuromod.seeds import generator
from tasks.config.fields import Rate
from tasks.continual.learners.base import apart
from tasks.continual.learners.dense import Dense
from tasks.continual.streams import Stream, Task
from tasks.experiment import Bench, Costs


class BatchEnsemble(Dense):
    """``y = s_t * W (r_t * x)`` at every layer, ``r_t`` (in,) and ``s_t`` (out,) real, starting at random signs.

    Wen et al. 2020, eq. 1 and section 4.1: W is trained with the first task and frozen after it, later tasks train their
    factors alone. The optimiser's rate is that of the factors, ``weights_lr`` that of W (1e-2 and 1e-4 with Adam in the code
    of Wortsman et al. 2020).

    Args:
        weights_lr: rate of the shared weights while the first task is learned, > 0.

    """

    frozen: Tensor

    def __init__(self, target: Target, stream: Stream, bench: Bench, *, weights_lr: Rate = 1e-4) -> None:
        super().__init__(target, stream, bench)
        self.kind, self.sites, self.weights_lr = Rank1(), target.weights(), weights_lr
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))
        self.factors = nn.ModuleList(self._start(target, task, bench.seeds["source"]) for task in range(len(stream)))

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs)."""
        return apart(self._one, x, task)

    def groups(self) -> list[dict[str, Any]]:
        """What an optimiser moves: the factors, and the shared weights at a rate of their own until they are frozen."""
        factors = {"params": list(self.factors.parameters())}
        weights = {"params": list(self.net.parameters()), "lr": self.weights_lr}
        return [factors] if self.frozen else [factors, weights]

    def after_task(self, number: int, task: Task) -> None:
        """Freeze the shared weights."""
        self.frozen.fill_(True)
        self.net.requires_grad_(False)

    def costs(self) -> Costs:
        """The factors of a task; the weights are shared."""
        own = list(self.factors[0].parameters())
        shared = sum(p.numel() for p in self.net.parameters())
        return Costs(sum(p.numel() for p in own), sum(p.numel() * p.element_size() for p in own), shared)

    def _start(self, target: Target, task: int, seed: int) -> nn.ParameterDict:
        now, start = target.tensors(), nn.ParameterDict()
        for site in self.sites:
            drawn = self.kind.start(site, now, generator(seed, "factors", task, site.name))
            start.update({f"{site.label}:{part}": nn.Parameter(value) for part, value in drawn.items()})
        return start

    def _one(self, x: Tensor, task: int) -> Tensor:
        own, weights = cast(nn.ParameterDict, self.factors[task]), dict(self.net.named_parameters())
        edits: dict[str, Tensor] = {}
        for site in self.sites:
            edits |= self.kind.edits(site, {part: own[f"{site.label}:{part}"] for part in ("s", "r")}, weights)
        return cast(Tensor, functional_call(self.net, edits, (x,)))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self.net.requires_grad_(not self.frozen)
