"""Parameter superposition: the weights of all tasks in one network, separated by random signs of what goes in."""

from typing import cast

import torch
from torch import Tensor
from torch.func import functional_call

from neuromod import Target
from neuromod.seeds import generator
from tasks.continual.learners.base import apart
from tasks.continual.learners.dense import Dense
from tasks.continual.streams import Stream
from tasks.experiment import Bench


class Psp(Dense):
    """``y = W (c_t * x)`` at every layer, ``c_t`` in {-1, 1}^in drawn once per task, W trained by all tasks.

    Cheung et al. 2019, eq. 4, with binary contexts: random ``c_t`` are nearly orthogonal, so that what W holds for another
    task acts as noise. Computed as ``(W * c_t^T) x``. Nothing of a task is stored: the seed gives its contexts again.
    """

    def __init__(self, target: Target, stream: Stream, bench: Bench) -> None:
        super().__init__(target, stream, bench)
        self.sites = target.weights()
        for site in self.sites:
            rngs = (generator(bench.seeds["source"], "context", task, site.name) for task in range(len(stream)))
            signs = torch.stack([torch.randint(0, 2, site.shape[1:2], generator=rng) * 2 - 1 for rng in rngs])
            self.register_buffer(f"context:{site.label}", signs.to(target.like()), persistent=False)

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Logits (B, outputs)."""
        return apart(self._one, x, task)

    def contexts(self, name: str) -> Tensor:
        """The signs at what goes into one weight: (T, in)."""
        return self.get_buffer(f"context:{name.replace('.', '/')}")

    def _one(self, x: Tensor, task: int) -> Tensor:
        signed = {}
        for site in self.sites:
            weight = self.net.get_parameter(site.name)
            signed[site.name] = weight * self.contexts(site.name)[task].view(1, -1, *(1,) * (weight.ndim - 2))
        return cast(Tensor, functional_call(self.net, signed, (x,)))
