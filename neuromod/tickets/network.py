"""`RandomMLP`: a random network that is drawn, frozen and hashed first, and in which smaller networks are then found."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from neuromod.arguments import count, flag, number, shown
from neuromod.errors import RefusedError
from neuromod.kinds import Threshold
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator
from neuromod.sources import Table
from neuromod.target.recipe import Recipe
from neuromod.target.target import Target
from neuromod.tickets.blocks import masks_of, random_linear
from neuromod.tickets.layers import Layer, read_layers, refuse_unreachable
from neuromod.tickets.product import find_product
from neuromod.tickets.slots import Slots, signed_slots
from neuromod.tickets.subset_sum import LARGEST
from neuromod.tickets.ticket import Found, MLPTicket

DRAWS = 200
"""Draws of one layer, until its signs can be shared out. Behind them units that fit no input are drawn again one by one: of few inputs
that are never negative, one unit in 2^inputs has no positive weight, and a layer without such a unit may never be drawn whole."""


@dataclass(frozen=True)
class RandomMLP:
    """A random network of twice the depth of its targets, which contains any of them that has the widths ``widths``.

    ``w x = w relu(x) - w relu(-x)``. For every layer of a target there is a block ``V relu(U x)`` of random numbers: masks leave each
    hidden unit i one weight ``u_i`` on one input j, and of the weights ``v_ki`` on the n units whose ``u_i`` is positive those whose
    ``|u_i| v_ki`` add up to ``w_kj``; on n more, whose ``u_i`` is negative, those that add up to ``-w_kj``. Behind a ReLU inputs are never
    negative, and n units an input are enough. A bias is a weight on a 1: units that keep their own bias and no weight.
    Malach et al. 2020; with sums of subsets (Lueker 1998) Pensia et al. 2020; Orseau et al. 2020.

    All numbers are i.i.d.: ``U`` in [-1, 1], ``V`` in [-scale, scale]. Nothing of the target is asked for until the network has its
    fingerprint. The masks of a target are a task of it (`find`, `model`), so that one network holds as many targets as are found.

    Args:
        widths: of the targets, inputs and outputs among them: (784, 300, 100, 10).
        n: candidates of each weight, 2 to 26.
        spare: units more for each input and side, drawn with the others, for weights whose error is above the tolerance.
        bias: whether targets have biases.
        nonnegative_input: whether inputs are never negative, as pixels are: the first layer then needs half of its units.
        scale: of ``V``; n candidates reach numbers of up to ``n * scale / 8`` on average.
        seed: of all draws.

    """

    widths: Sequence[int]
    n: int = 20
    spare: int = 4
    bias: bool = False
    nonnegative_input: bool = False
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.widths, str | bytes) or not isinstance(self.widths, Sequence) or len(self.widths) < 2:
            raise RefusedError(
                f"widths are those of all layers, inputs and outputs among them; got {shown(self.widths)}; pass (784, 100, 10), say"
            )
        object.__setattr__(self, "widths", tuple(count(width, "a width", least=1) for width in self.widths))
        count(self.n, "n, the candidates of a weight,", least=2, most=26)
        count(self.spare, "spare, the units beside them,", most=LARGEST - self.n)
        flag(self.bias, "bias")
        flag(self.nonnegative_input, "nonnegative_input")
        number(self.scale, "scale, the largest size of a weight of V,", above=0)
        count(self.seed, "seed")

    @cached_property
    def target(self) -> Target:
        """The random network, frozen and fingerprinted."""
        options = {
            "widths": list(self.widths),
            "each": self.n + self.spare,
            "bias": self.bias,
            "nonnegative_input": self.nonnegative_input,
            "scale": self.scale,
        }
        recipe = Recipe("neuromod.tickets.network:random_blocks", options, init="pytorch", seed=self.seed)
        return Target.from_recipe(recipe, torch.ones(2, self.widths[0]))

    @cached_property
    def slots(self) -> tuple[Slots, ...]:
        """Of each block, which units carry which input; it depends on the random network alone."""
        found = []
        for block, inputs in enumerate(self.widths[:-1]):
            slots = signed_slots(self._first(block), self.n + self.spare, self._sides(inputs, block))
            assert slots is not None  # the network was drawn until there were some
            found.append(slots)
        return tuple(found)

    def model(self) -> Modulated:
        """The random network under masks of 0 and 1 on all its numbers; it has no task until a ticket is put in."""
        names = [f"{name}.bias" for name, _ in self._names()] if self.bias else []
        sites = self.target.weights("*", *names)
        return Modulated(self.target, Modulator(Threshold(), Table([]), sites))

    def find(self, net: nn.Module, *, tolerance: float | None = None) -> MLPTicket:
        """The masks under which the random network computes what ``net`` does.

        Refused: layers that are not Linear with a ReLU between each two, other widths, biases that the network has no units for,
        weights that are not finite, and weights out of the candidates' reach.

        Args:
            net: the target, `nn.Sequential` of the widths of this network.
            tolerance: the largest error of a weight: one above it is solved again with the spare units. `Ticket.widened` counts these,
                `Ticket.missed` those that stay above it. None: the n candidates are enough for all.

        """
        fingerprint = self.target.fingerprint()
        if tolerance is not None:
            number(tolerance, "tolerance, the largest error of a weight,", above=0)
        layers = read_layers(net)
        self._refuse(layers)
        row: dict[str, Tensor] = {}
        found = []
        for block, (layer, slots, names) in enumerate(zip(layers, self.slots, self._names(), strict=True)):
            inputs = layer.weight.shape[1]
            wanted = layer.weight
            if self.bias:
                bias = wanted.new_zeros(len(wanted)) if layer.bias is None else layer.bias
                wanted = torch.cat([wanted, bias[:, None]], dim=1)
            first, second = self._first(block), self.target.tensors()[f"{names[1]}.weight"].detach().cpu()
            _, columns = slots.owners
            sizes = first.gather(1, columns[:, None]).squeeze(1).abs().double()
            product = find_product(wanted, sizes, second, slots, n=self.n, tolerance=tolerance)
            row |= masks_of(product.mask, columns, inputs, biased=self.bias).row(*names)
            found.append(Found(layer, product))
        return MLPTicket(fingerprint, row, tuple(found))

    def _names(self) -> list[tuple[str, str]]:
        """Of each block, the names of its two layers: the network is flattened first, and ReLUs stand between."""
        return [(str(4 * block + 1), str(4 * block + 3)) for block in range(len(self.widths) - 1)]

    def _first(self, block: int) -> Tensor:
        """The weights of the hidden units of a block, and their bias as one more column."""
        tensors, (name, _) = self.target.tensors(), self._names()[block]
        parts = [tensors[f"{name}.weight"]] + ([tensors[f"{name}.bias"][:, None]] if self.bias else [])
        return torch.cat(parts, dim=1).detach().cpu()

    def _sides(self, inputs: int, block: int) -> Tensor:
        return _sides(inputs, bias=self.bias, signed=block == 0 and not self.nonnegative_input)

    def _refuse(self, layers: tuple[Layer, ...]) -> None:
        widths = (layers[0].weight.shape[1], *(len(layer.weight) for layer in layers))
        if widths != self.widths:
            raise RefusedError(
                f"a target has the widths that the random network was drawn for; got {widths} for {self.widths}; draw RandomMLP({widths})"
            )
        for place, layer in enumerate(layers):
            for name, part in (("weight", layer.weight), ("bias", layer.bias)):
                if part is not None:
                    refuse_unreachable(part, f"the {name} of layer {place}", self.n, self.scale)
            if layer.bias is not None and not self.bias:
                raise RefusedError(
                    f"a bias needs units of its own; layer {place} of the target has one, the random network has none; "
                    "draw RandomMLP(..., bias=True), or take the target without"
                )


# reason: what `RandomMLP` is made with; a recipe keeps it
def random_blocks(
    widths: Sequence[int], each: int, *, bias: bool, nonnegative_input: bool, scale: float
) -> nn.Sequential:
    """The random network of `RandomMLP`: for each layer of a target a block of hidden units and of what reads them.

    A layer whose signs can't be shared out among its inputs is drawn again (`signed_slots`); that depends on no target.

    Args:
        widths: of the targets.
        each: units for each side of each input.
        bias: whether the hidden units have biases, and ``each`` of them carry a bias of a target.
        nonnegative_input: whether inputs of the first block are never negative.
        scale: of the second layer of each block.

    """
    modules: list[nn.Module] = [nn.Flatten()]
    for block in range(len(widths) - 1):
        inputs = widths[block]
        sides = _sides(inputs, bias=bias, signed=block == 0 and not nonnegative_input)
        units = each * int(sides.sum())
        for draw in range(2 * DRAWS):
            first = random_linear(inputs, units, bias=bias)
            # A store asks for the sizes alone, on the meta device, before it draws.
            if first.weight.is_meta:
                break
            if draw >= DRAWS:
                _draw_again(first, sides)
            if signed_slots(_with_bias(first).detach(), each, sides) is not None:
                break
        else:
            raise RefusedError(
                f"each side of each input needs {each} units of its sign; {2 * DRAWS} draws of {units} units for {inputs} inputs had too "
                "few; take another seed or a smaller n"
            )
        modules += [nn.ReLU()] * (block > 0) + [first, nn.ReLU(), random_linear(units, widths[block + 1], scale=scale)]
    return nn.Sequential(*modules)


def _with_bias(layer: nn.Linear) -> Tensor:
    """The weights of the units, and their bias as one more column."""
    return layer.weight if layer.bias is None else torch.cat([layer.weight, layer.bias[:, None]], dim=1)


@torch.no_grad()
def _draw_again(layer: nn.Linear, sides: Tensor) -> None:
    """Draw units again until each has the sign of a side that wants units: what layers drawn whole have that are taken, too."""
    while True:
        positive = _with_bias(layer) > 0
        lost = ~((positive & sides[:, 1]) | (~positive & sides[:, 0])).any(1)
        if not bool(lost.any()):
            return
        fresh = random_linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        for old, new in zip(layer.parameters(), fresh.parameters(), strict=True):
            old[lost] = new[lost]


def _sides(inputs: int, *, bias: bool, signed: bool) -> Tensor:
    """Which sides, (negative, positive), of each column want units, bool (columns, 2)."""
    sides = torch.ones(inputs + bias, 2, dtype=torch.bool, device="cpu")
    sides[:inputs, 0] = signed
    sides[inputs:, 0] = False
    return sides
