"""The contract of a kind: what raw numbers mean, and where they act."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuromod.errors import RefusedError
from neuromod.target.sites import Site
from neuromod.target.taps import BIAS, GAIN, INPUT, MIX, OUTPUT_TAP, SCALE, SHIFT

Raw = Mapping[str, Tensor]
"""Raw numbers of one site by part ("score", "gain", ...)."""
Now = Mapping[str, Tensor]
"""Tensors of the target by name, as they stand after the modulators before this one."""
Edits = dict[str, Tensor]
"""Tensors to put in the place of the target's, by name."""


@dataclass(frozen=True)
class Kind:
    """Pure functions from a site and raw numbers to tensors of the target; no parameters, no state.

    A kind says the shapes of its raw numbers (trailing axes; an output site may get a leading row axis), where they start, and
    which edits they make. ``now`` maps names to the tensors that stand in the target after the modulators before this one, so that
    kinds compose by folding in order. A kind of your own is a frozen dataclass with `shapes`, `start` and `edits` (CONTRIBUTING
    has a whole one).
    """

    roles: ClassVar[tuple[str, ...]] = ("weight",)
    """The roles of sites that the kind acts on."""
    learned: ClassVar[bool] = True
    """False for numbers that are measured (kept as buffers) and not learned."""
    replaces: ClassVar[bool] = False
    """True for kinds that ignore what was there: they must be the first to write a tensor."""
    alone: ClassVar[bool] = False
    """True for kinds that act on the one place of a site, and leave what is tied to it as it is."""
    per_task: ClassVar[tuple[str, ...]] = ()
    """Fields that may differ from task to task, as options of `Modulator.add`."""

    @property
    def wired(self) -> str | None:
        """The part that has a number for each wire, a place of the weight, which a rule may cut and grow (`neuromod.rewiring`)."""
        return None

    @property
    def is_mask(self) -> bool:
        """Whether the kind is a mask on weights, packed at rest to the bits that its values need."""
        return False

    @property
    def binary(self) -> bool:
        """Whether its edit is exactly ``W * M`` with a mask of 0 and 1, so that a superposition may work on packed bits."""
        return False

    @property
    def is_gate(self) -> bool:
        """Whether the kind is one factor per channel (`factor`)."""
        return False

    @property
    def switched(self) -> str | None:
        """How it takes a difference that stands beside the weight, as a "mask" or by "sign"; None of kinds that take none."""
        return None

    @property
    def hard(self) -> bool:
        """Whether its factors are exactly 0 or 1."""
        return False

    @property
    def own_width(self) -> bool:
        """Whether each task may have a number of outputs of its own, ``modulator.add(task, width=n)``, and none is set."""
        return "width" in self.per_task and getattr(self, "width", None) is None

    def factor(self, raw: Raw) -> Tensor | None:
        """The factors of a gate, (C,) of a row or (B, C) of a row per sample; None of any other kind."""
        return None

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        """The parts of the raw numbers at a site and their shapes, {"score": (64, 32)}."""
        raise NotImplementedError

    def constants(self, site: Site) -> dict[str, Tensor]:
        """Numbers that no task learns and nobody stores, drawn from a seed of the kind's own; `edits` and `blend` get them among ``raw``.

        A modulator draws them once, when it is bound, for all rows alike: which places of a weight a mask searches, say.
        """
        return {}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        """Raw numbers by part, where the paper of this kind starts.

        Args:
            site: where they will act.
            now: the target's tensors.
            rng: a CPU generator of this site and row alone; draw in float32 and convert, so that every device starts alike.

        """
        raise NotImplementedError

    def identity(self, site: Site, now: Now) -> dict[str, Tensor] | None:
        """Raw numbers that leave the target exactly as it is; None where there are none."""
        return None

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        """The tensors, by name, that these raw numbers put in the place of the target's.

        Args:
            site: where they act.
            raw: numbers by part: those of `shapes`, of `freeze` at rest, or of `blend`; `constants` beside them, and `noise` in
                training.
            now: the tensors that stand there, those of modulators before this one included.

        """
        raise NotImplementedError

    def hold(self, site: Site, values: Tensor, wires: Tensor) -> Tensor:
        """Numbers of the part `wired` that have these wires and no others, as near to ``values`` as can be.

        Args:
            site: where they act.
            values: of the weight's shape.
            wires: 1 where a wire is, else 0, of that shape and of their dtype.

        """
        raise RefusedError(f"a rule moves wires; {type(self).__name__} has none; take a mask, Wires or Generated")

    def room(self, site: Site) -> tuple[int, int]:
        """The least and the largest number of wires that `hold` can give the site."""
        return 0, math.prod(site.shape)

    def strength(self, values: Tensor) -> Tensor:
        """How firmly a wire stands: the smallest are dropped first."""
        return values.abs()

    def promise(self, gradient: Tensor) -> Tensor:
        """How much a wire that is not there would lower the loss, from the gradient to its number: the largest grow first."""
        return gradient.abs()

    def gathers(self, site: Site) -> bool:
        """Whether `edits` also takes raw numbers with a leading axis, a row per sample, and writes them into taps."""
        return site.role == "output" and site.batch is not None

    def blend(self, site: Site, raw: Raw, now: Now) -> dict[str, Tensor]:
        """The same modulation in numbers whose weighted sum is the weighted sum of modulations; `edits` takes it too.

        ``sum_e g_e E_e`` of the edits ``E_e`` of several rows is what CondConv (Yang et al. 2019, eq. 1) mixes: a mask gives itself
        instead of its scores, a low-rank delta the product instead of its factors.

        Args:
            site: where they act.
            raw: numbers by part, live or at rest.
            now: the target's tensors.

        """
        return dict(raw)

    def freeze(self, site: Site, raw: Raw) -> dict[str, Tensor]:
        """The same modulation at rest, in as few bytes as it needs; `edits` takes it as well."""
        return {part: value.detach().clone() for part, value in raw.items()}

    def at_rest(self, site: Site) -> dict[str, Tensor]:
        """A row of this kind at rest, {"bits": (n,) of uint8}, whose shapes and dtypes count and whose numbers do not."""
        return self.freeze(site, {part: torch.zeros(shape) for part, shape in self.shapes(site).items()})

    def digits(self, site: Site) -> tuple[int, int]:
        """How many digits, of which base, the part ``bits`` of a row at rest holds: a bit for each weight, unless a kind says otherwise."""
        return math.prod(site.shape), 2

    def check_rest(self, site: Site, raw: Raw) -> None:
        """Refuse numbers at rest that `edits` could not take, though their shapes and dtypes are right."""

    def writes(self, site: Site) -> tuple[str, ...]:
        """Names of the tensors that `edits` may put something in the place of."""
        tap = tuple(f"{site.module}.{slot}" for slot in OUTPUT_TAP)
        return tap if site.role == "output" else (site.name,)

    def noise(self, site: Site) -> dict[str, tuple[int, ...]]:
        """Parts of uniform noise in [0, 1), with shapes, that `edits` wants beside the raw numbers in training."""
        return {}

    def scale(self, site: Site) -> float:
        """The standard deviation of raw numbers that a hypernetwork generates whole, with no start to add them to; 0 for most kinds.

        A score or a gain is generated as an offset, the kind's start, plus a head that begins at zero, and needs no scale. A generated
        *weight* has no such offset: its head is drawn, and numbers of the wrong size would blow activations up layer by layer (trap 20
        of the design). So `Generated` gives ``sqrt(2 / fan_in)``, and `Hypernet` multiplies by it.
        """
        return 0.0


def uniform(shape: tuple[int, ...], bound: float, like: Tensor, rng: torch.Generator) -> Tensor:
    """``U(-bound, bound)`` drawn on the CPU in float32, so that every device and dtype starts alike.

    Args:
        shape: of what is drawn.
        bound: the largest magnitude.
        like: a tensor of the dtype and on the device of the result.
        rng: a CPU generator.

    """
    return ((torch.rand(shape, generator=rng) * 2 - 1) * bound).to(like)


def write_tap(site: Site, now: Now, gain: Tensor | None, bias: Tensor | None) -> Edits:
    """Edits that put ``h -> gain * h + bias`` behind what the tap of this site already does.

    Args:
        site: an output.
        now: the tensors that stand there; a tap that was written before is in it.
        gain: (C,), or (B, C), a row per sample; None leaves the scale.
        bias: of the same shape; None adds nothing.

    """
    before_gain, before_bias = now.get(f"{site.module}.{GAIN}"), now.get(f"{site.module}.{BIAS}")
    edits: Edits = {}
    if gain is not None:
        edits[f"{site.module}.{GAIN}"] = gain if before_gain is None else gain * before_gain
        if before_bias is not None:
            edits[f"{site.module}.{BIAS}"] = gain * before_bias
    if bias is not None:
        before = edits.get(f"{site.module}.{BIAS}", before_bias)
        edits[f"{site.module}.{BIAS}"] = bias if before is None else before + bias
    return edits


def write_mix(site: Site, now: Now, mix: Tensor) -> Edits:
    """Edits that put ``h -> mix h`` behind what the tap of this site already does.

    ``C (g * (M h) + b) = (C diag(g) M) h + C b``: what scaled the channels before becomes a part of the matrix.

    Args:
        site: an output.
        now: the tensors that stand there; a tap that was written before is in it.
        mix: C (channels, channels), or (B, channels, channels), a matrix per sample.

    """
    gain, bias, before = (now.get(f"{site.module}.{slot}") for slot in OUTPUT_TAP)
    edits = {f"{site.module}.{MIX}": mix}
    if bias is not None:
        edits[f"{site.module}.{BIAS}"] = (mix @ bias.unsqueeze(-1)).squeeze(-1)
    if gain is not None:
        edits |= {f"{site.module}.{MIX}": mix * gain.unsqueeze(-2), f"{site.module}.{GAIN}": torch.ones_like(gain)}
    if before is not None:
        edits[f"{site.module}.{MIX}"] = edits[f"{site.module}.{MIX}"] @ before
    return edits


def write_weight_tap(site: Site, now: Now, scale_in: Tensor, scale_out: Tensor) -> Edits:
    """Edits that put ``W -> W * s r^T``, one for each sample, into the tap of a weight; the weights themselves are never built.

    Args:
        site: a weight whose batch axis is known.
        now: the tensors that stand there, the layer's bias among them.
        scale_in: ``r`` (B, in), which scales what goes into the layer.
        scale_out: ``s`` (B, out), which scales what comes out, without the bias.

    """
    edits = {f"{site.module}.{INPUT}": scale_in, f"{site.module}.{SCALE}": scale_out}
    if site.bias:
        # The bias is no part of the weight: it is added behind the scale.
        bias = now[f"{site.module}.bias"]
        edits |= {f"{site.module}.bias": torch.zeros_like(bias), f"{site.module}.{SHIFT}": bias}
    return edits


def require_matrix(kind: Kind, site: Site) -> None:
    """Refuse a tensor of fewer than two axes."""
    if len(site.shape) < 2:
        raise RefusedError(
            f"{type(kind).__name__} needs a weight of two axes or more; got {site.name!r} of shape {site.shape}; exclude it"
        )
