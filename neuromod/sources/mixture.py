"""`Mixture`: rows are mixtures of a few whole rows, the experts, weighed by a router."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from neuromod.arguments import count, one_of, shown
from neuromod.errors import RefusedError
from neuromod.sources.base import Rows, Starts
from neuromod.sources.context import Context
from neuromod.sources.shared import Options, Shared, bind_offset, embeddings

FORMS = ("softmax", "sigmoid", "hard")
SEALED = "sealed"
"""What `Mixture.arguments` says of experts that are sealed tasks: they are part of its state."""


class Mixture(Shared):
    """``row = sum_e g_e(e) expert_e`` with routing weights ``g``; CondConv (Yang et al. 2019, eq. 1).

    ``"softmax"``: ``g`` sums to 1 (dynamic convolution, Chen et al. 2020, eq. 1); ``"sigmoid"``: each in (0, 1), as in
    CondConv; ``"hard"``: the largest softmax weight counts as 1 and the rest as 0, straight-through, so that in evaluation
    each sample runs under one expert. Experts are learned rows, drawn at the kind's start, or sealed tasks at rest, which
    stay as they are: ``Mixture(modulator.blended(), "input")``. All weights start equal: the router's last layer is zero.
    Under ``identity=True`` learned experts are added to the target's own value and start at zero, and the router is drawn.

    Args:
        experts: how many rows to learn, or the rows (experts, ...) of `Modulator.blended`.
        reads: ``"task"``, ``"condition"``, ``"input"``, ``"activation:NAME"``, or ``"nothing"`` (one embedding for all).
        form: of the routing weights.
        tasks: tasks to start with, where it reads the task.
        options: what a `Hypernet` takes beside its own, ``body``, ``hidden``, ``embedding``, ``labels`` and ``learn_body``,
            with the same meaning.

    """

    def __init__(
        self,
        experts: int | Mapping[str, Tensor],
        reads: str = "input",
        *,
        form: Literal["softmax", "sigmoid", "hard"] = "softmax",
        tasks: int | Iterable[int] = 1,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(embeddings(reads, tasks, options), options)
        one_of(form, "a routing form", FORMS)
        if isinstance(experts, Mapping):
            if not all(isinstance(v, Tensor) and v.ndim for v in experts.values()):
                raise RefusedError(
                    f"sealed experts are rows (experts, ...) by name; got {shown(experts)}; pass blended()"
                )
            self.count = len(next(iter(experts.values()), ()))
        else:
            self.count = count(experts, "experts")
        if self.count < 2:
            raise RefusedError(f"a mixture needs at least two experts; got {self.count}; use a Table for one")
        self.form = form
        self.router = nn.ParameterDict()
        self.experts: nn.Module = nn.ParameterDict()
        if isinstance(experts, Mapping):
            self.blends = True
            self.experts = nn.Module()
            for key, value in experts.items():
                self.experts.register_buffer(key, value.detach().clone())

    def arguments(self) -> dict[str, Any]:
        if self.blends and self.reads == "task":
            raise RefusedError(
                "a store keeps sealed experts for sources that do not read the task; this Mixture does; keep it with state_dict()"
            )
        return {"form": self.form, "experts": SEALED if self.blends else self.count} | super().arguments()

    def bind(self, starts: Starts) -> None:
        self.codes.bind(starts)
        features = self.bind_body(starts, self.codes.example(starts))
        like = torch.zeros(self.count, device=starts.device, dtype=starts.dtype)
        weight = like.new_zeros(self.count, features)
        if isinstance(self.experts, nn.ParameterDict):
            self._draw_experts(self.experts, starts)
            if starts.own:
                # Experts that start alike under equal weights would stay alike: here the router tells them apart.
                drawn = torch.randn(weight.shape, generator=starts.generator("router"))
                weight = (drawn / math.sqrt(features)).to(weight)
        else:
            self._refuse_strange_sites(starts)
        self.router["weight"], self.router["bias"] = nn.Parameter(weight), nn.Parameter(like)

    def _draw_experts(self, experts: nn.ParameterDict, starts: Starts) -> None:
        if starts.own:
            bind_offset(self.offset, starts, starts.shapes)
        rows = [starts.row(f"expert {e}") for e in range(self.count)]
        for key in starts.shapes:
            drawn = torch.stack([row[key] for row in rows]).detach()
            experts[key] = nn.Parameter(torch.zeros_like(drawn) if starts.own else drawn)

    def _refuse_strange_sites(self, starts: Starts) -> None:
        held, wanted = _sites(dict(self.experts.named_buffers())), _sites(starts.shapes)
        if held != wanted:
            odd = sorted(held ^ wanted)[0].replace("/", ".")
            raise RefusedError(
                f"experts belong to the sites that they were sealed at; {odd!r} is not at both; pass the same sites"
            )

    def weights(self, context: Context) -> tuple[Tensor, Tensor | None]:
        """Routing weights (rows, experts) and the index (B,) of the row that each sample uses."""
        features, index = self.features(context)
        logits = nn.functional.linear(features, self.router["weight"], self.router["bias"])
        if self.form == "sigmoid":
            return torch.sigmoid(logits), index
        soft = torch.softmax(logits, -1)
        if self.form == "softmax":
            return soft, index
        chosen = nn.functional.one_hot(soft.argmax(-1), self.count).to(soft)
        return chosen + (soft - soft.detach()), index

    def forward(self, context: Context) -> Rows:
        weights, index = self.weights(context)
        experts = dict(self.experts.named_parameters()) | dict(self.experts.named_buffers())
        offset = dict(self.offset.named_buffers())
        if self.form == "hard" and not self.training:
            # One row an expert: samples that share one are run together.
            chosen = weights.argmax(-1)
            rows = {key: value + offset[key] if key in offset else value for key, value in experts.items()}
            return Rows(rows, chosen[0] if index is None else chosen.index_select(0, index.reshape(-1)).view_as(index))
        mixed = {key: torch.tensordot(weights.to(value.dtype), value, 1) for key, value in experts.items()}
        return Rows({key: value + offset[key] if key in offset else value for key, value in mixed.items()}, index)


def _sites(keys: Iterable[str]) -> set[str]:
    return {key.rpartition("/")[0] for key in keys}
