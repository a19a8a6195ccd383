"""What a rule goes by: scores of wires and of places for wires, from their numbers, gradients, slots, topology or activity."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from neuromod.arguments import flag, function, one_of, shown
from neuromod.errors import RefusedError, nearest
from neuromod.kinds.base import Kind

Thing = TypeVar("Thing")
NEEDS = ("gradient", "slots", "curvature", "activity")
SLOTS = ("momentum_buffer", "exp_avg")
"""Where the optimisers of torch keep a running mean of gradients."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one site when its wires are judged; tensors have the weight's shape.

    Args:
        kind: says how firmly a wire stands and what one promises.
        values: the numbers of the wires, and of the other places what they would have.
        wires: bool, where a wire is.
        rng: of this site and step, on the CPU.
        gradient: of the loss to ``values``, at all places; None where nobody took it.
        slots: what the optimiser keeps of them, by its name for it.
        curvature: the Hessian times the gradient.
        activity: what goes in and what comes out, (samples, in) and (samples, out).

    """

    kind: Kind
    values: Tensor
    wires: Tensor
    rng: torch.Generator
    gradient: Tensor | None = None
    slots: Mapping[str, Tensor] = field(default_factory=dict)
    curvature: Tensor | None = None
    activity: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Score:
    """A score of every place of a site: of the wires the smallest are dropped, of the other places the largest grow.

    Args:
        of: evidence to scores, of the weight's shape.
        needs: which fields of the evidence beside values and wires it reads: "gradient", "slots", "curvature", "activity".
        positive: whether it is taken of a network whose numbers are replaced by their magnitudes, on a sum of outputs.

    """

    of: Callable[[Evidence], Tensor]
    needs: frozenset[str] = frozenset()
    positive: bool = False

    def __post_init__(self) -> None:
        function(self.of, "a score")
        flag(self.positive, "positive")
        if isinstance(self.needs, str) or not isinstance(self.needs, Iterable):
            raise RefusedError(f"needs is a set of names; got {shown(self.needs)}; pass {{'gradient'}}, say")
        for need in self.needs:
            one_of(need, "what a score needs", NEEDS)
        object.__setattr__(self, "needs", frozenset(self.needs))

    def judge(self, evidence: Evidence) -> Tensor:
        """The scores of a site. Refused: what is no tensor of real floats of the weight's shape."""
        found = self.of(evidence)
        if (
            not isinstance(found, Tensor)
            or found.shape != evidence.wires.shape
            or not found.is_floating_point()
            or found.device != evidence.wires.device
        ):
            shape, device = tuple(evidence.wires.shape), evidence.wires.device
            raise RefusedError(
                f"a score is a real float for each place, {shape} on {device}; got {shown(found)}; correct it"
            )
        return found


def magnitude(evidence: Evidence) -> Tensor:
    """``|w|``; of a score how far it is from where it opens."""
    return evidence.kind.strength(evidence.values)


def gradient(evidence: Evidence) -> Tensor:
    """``|dL/dw|`` of this batch (RigL, Evci et al. 2020, section 3); ``-dL/ds`` of a mask, whose weights have their signs."""
    return evidence.kind.promise(_there(evidence.gradient, "gradient"))


def momentum(evidence: Evidence) -> Tensor:
    """``|m|``, the optimiser's running mean of gradients (SNFS, Dettmers and Zettlemoyer 2019, section 3)."""
    found = next((evidence.slots[name] for name in SLOTS if name in evidence.slots), None)
    return evidence.kind.promise(_there(found, f"running mean of gradients ({' or '.join(SLOTS)})"))


def random(evidence: Evidence) -> Tensor:
    """``U[0, 1)`` (SET, Mocanu et al. 2018)."""
    shape, device = evidence.wires.shape, evidence.wires.device
    return torch.rand(shape, generator=evidence.rng).to(device)


def saliency(evidence: Evidence) -> Tensor:
    """``|w dL/dw|`` (SNIP, Lee et al. 2019, eq. 6)."""
    return (evidence.values * _there(evidence.gradient, "gradient")).abs()


def gradient_flow(evidence: Evidence) -> Tensor:
    """``w (H g)``: dropped first are those without which the norm of the gradient grows most (GraSP, Wang et al. 2020, eq. 8)."""
    return evidence.values * _there(evidence.curvature, "curvature")


def topology(evidence: Evidence) -> Tensor:
    """Paths of three wires from input j to output i, ``sum A_iu A_vu A_vj / sqrt(k_u k_v)``, u an input and v an output between.

    The link prediction L3 of Kovács et al. (2019, eq. 2) on the bipartite graph of a layer, degrees k counted in it. It reads
    no gradient, as the growth of CHT (Zhang et al. 2024), whose score CH3-L3 also counts the wires that leave these paths.
    """
    wires = evidence.wires.flatten(1).float()
    from_inputs = wires / wires.sum(0, keepdim=True).clamp(min=1).sqrt()
    to_outputs = wires / wires.sum(1, keepdim=True).clamp(min=1).sqrt()
    return (from_inputs @ wires.T @ to_outputs).view(evidence.wires.shape)


def activity(evidence: Evidence) -> Tensor:
    """``|E[(x_j - E x_j)(h_i - E h_i)]|``: wires grow between units that are active together (Hebb 1949)."""
    x, h = _there(evidence.activity, "activity")
    x, h = x - x.mean(0), h - h.mean(0)
    return (h.T @ x / len(x)).abs().view(evidence.wires.shape)


SCORES: Mapping[str, Score] = {
    "magnitude": Score(magnitude),
    "gradient": Score(gradient, frozenset({"gradient"})),
    "momentum": Score(momentum, frozenset({"slots"})),
    "random": Score(random),
    "saliency": Score(saliency, frozenset({"gradient"})),
    "gradient_flow": Score(gradient_flow, frozenset({"curvature"})),
    "synaptic_flow": Score(saliency, frozenset({"gradient"}), positive=True),
    "topology": Score(topology),
    "activity": Score(activity, frozenset({"activity"})),
}
"""By name; ``synaptic_flow`` is SynFlow's (Tanaka et al. 2020, eq. 5): the saliency of the sum of outputs, all numbers positive."""


def score_of(name: str | Score) -> Score:
    """A score by its name, or the user's own."""
    if isinstance(name, Score):
        return name
    if not isinstance(name, str) or name not in SCORES:
        raise RefusedError(
            f"a score is one of {', '.join(SCORES)}, or a Score; got {shown(name)}; nearest: {nearest(shown(name), SCORES, 1)}"
        )
    return SCORES[name]


def _there(found: Thing | None, what: str) -> Thing:
    if found is None:
        raise RefusedError(
            f"a score reads what the training gives it; there is no {what}; take another score or another optimiser"
        )
    return found
