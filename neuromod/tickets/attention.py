"""One head of attention inside a wider random one: its two products of matrices are found, query with key and value with output."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from neuromod.arguments import count, instance, number, task_id, tensor
from neuromod.errors import RefusedError
from neuromod.kinds import Threshold
from neuromod.kinds.bits import pack
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator
from neuromod.sources import Table
from neuromod.target.recipe import Recipe
from neuromod.target.target import Target
from neuromod.tickets.blocks import masks_of, random_linear
from neuromod.tickets.certificate import in_doubles
from neuromod.tickets.layers import Layer, finite, refuse_unreachable
from neuromod.tickets.product import find_product
from neuromod.tickets.slots import linear_slots
from neuromod.tickets.subset_sum import LARGEST
from neuromod.tickets.ticket import Found, Ticket


@dataclass(frozen=True)
class HeadProducts:
    """A head of attention ``y_t = sum_s softmax_s(x_t^T P x_s) R x_s``, as the two matrices that it is made of.

    Args:
        scores: ``P = W_Q^T W_K / sqrt(d_h)``, float64 (d, d).
        values: ``R = W_O W_V``, float64 (d, d).

    """

    scores: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(tensor(part, "a product of a head", 2).shape) for part in (self.scores, self.values)]
        if shapes != [(len(self.scores),) * 2] * 2:
            raise RefusedError(
                f"the products of a head are square, and both of the size of a token; got {shapes[0]} and {shapes[1]}; correct them"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Sequences (B, T, d) to what this head adds to the output (B, T, d), in float64."""
        x = tensor(x, "sequences", 3).double()
        if x.shape[2] != len(self.scores):
            raise RefusedError(
                f"a head reads tokens of its own size; got {tuple(x.shape)} for {len(self.scores)}; pass (B, T, {len(self.scores)})"
            )
        return torch.softmax(x @ self.scores @ x.mT, dim=-1) @ x @ self.values.T


def head_products(attention: nn.MultiheadAttention, head: int) -> HeadProducts:
    """The products of one head of an `nn.MultiheadAttention` without biases whose queries, keys and values are one sequence."""
    instance(attention, nn.MultiheadAttention, "the attention of a ticket")
    head = count(head, "head", most=attention.num_heads - 1)
    if attention.in_proj_weight is None or attention.in_proj_bias is not None or attention.bias_k is not None:
        raise RefusedError(
            "a head is found as two products of matrices; this attention has biases, or sizes of its own for keys or values; "
            "make it with nn.MultiheadAttention(d, heads, bias=False)"
        )
    if attention.add_zero_attn:
        raise RefusedError("a head attends to its tokens alone; this one has add_zero_attn=True; make it without")
    rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    query, key, value = (finite(part, "in_proj_weight")[rows] for part in attention.in_proj_weight.chunk(3))
    output = finite(attention.out_proj.weight, "out_proj.weight")[:, rows]
    return HeadProducts(query.T @ key / math.sqrt(attention.head_dim), output @ value)


class WideHead(nn.Module):
    """A head of attention of ``units`` random hidden units, without biases and without a scale on its scores.

    Args:
        dimension: of the tokens.
        units: of query and key, and of value: as many.
        scale: of key and output; query and value are in [-1, 1].

    """

    def __init__(self, dimension: int, units: int, scale: float) -> None:
        super().__init__()
        self.query, self.key = random_linear(dimension, units), random_linear(dimension, units, scale=scale)
        self.value, self.output = random_linear(dimension, units), random_linear(units, dimension, scale=scale)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences (B, T, d) to (B, T, d)."""
        y: Tensor = self.output(torch.softmax(self.query(x) @ self.key(x).mT, dim=-1) @ self.value(x))
        return y


@dataclass(frozen=True)
class RandomHead:
    """A wide random head of attention, drawn first, which contains any head over tokens of ``dimension`` numbers.

    Scores ask for the product ``W_Q^T W_K``, what is read for ``W_O W_V``. There is no ReLU between the factors, so one unit serves
    both signs: ``n`` units for each of the d numbers of a token; masks leave a unit one weight in the first factor, and in the
    second those whose products add up to the wanted number. Otsuka et al. 2025 prove it for attention of several heads.

    Args:
        dimension: of the tokens.
        n: candidates of each number of a product, 2 to 26.
        spare: units more for each of a token's numbers, as of `RandomMLP`.
        scale: of the second factors.
        seed: of all draws.

    """

    dimension: int
    n: int = 20
    spare: int = 4
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        count(self.dimension, "dimension, that of the tokens,", least=1)
        count(self.n, "n, the candidates of a weight,", least=2, most=26)
        count(self.spare, "spare, the units beside them,", most=LARGEST - self.n)
        number(self.scale, "scale, the largest size of a weight of the second factors,", above=0)
        count(self.seed, "seed")

    @cached_property
    def target(self) -> Target:
        """The random head, frozen and fingerprinted."""
        units = self.dimension * (self.n + self.spare)
        options = {"dimension": self.dimension, "units": units, "scale": self.scale}
        recipe = Recipe("neuromod.tickets.attention:WideHead", options, init="pytorch", seed=self.seed)
        return Target.from_recipe(recipe, torch.ones(2, 3, self.dimension))

    def model(self) -> Modulated:
        """The random head under masks on all its weights; it has no task until a ticket is put in."""
        return Modulated(self.target, Modulator(Threshold(), Table([]), self.target.weights("*")))

    def find(self, products: HeadProducts, *, tolerance: float | None = None) -> Ticket:
        """The masks under which the random head computes what a head does.

        Args:
            products: of the head (`head_products`).
            tolerance: as of `RandomMLP.find`.

        """
        fingerprint, tensors = self.target.fingerprint(), self.target.tensors()
        if tolerance is not None:
            number(tolerance, "tolerance, the largest error of a weight,", above=0)
        if len(instance(products, HeadProducts, "the products of a head").scores) != self.dimension:
            size = len(products.scores)
            raise RefusedError(
                f"a head is over tokens of the size that the random one was drawn for, {self.dimension}; got {size}; draw "
                f"RandomHead({size})"
            )
        slots = linear_slots(self.dimension, self.n + self.spare)
        _, columns = slots.owners
        row: dict[str, Tensor] = {}
        found = []
        # A score is x_t^T P x_s: query picks the row of P, and what key reads are its columns.
        for first, second, wanted in (("query", "key", products.scores.T), ("value", "output", products.values)):
            wanted = finite(wanted, f"the product of {first} and {second}")
            refuse_unreachable(wanted, f"the product of {first} and {second}", self.n, self.scale)
            factors = [tensors[f"{name}.weight"].detach().cpu() for name in (first, second)]
            sizes = factors[0].gather(1, columns[:, None]).squeeze(1).double()
            reads = factors[1].T if second == "key" else factors[1]
            product = find_product(wanted, sizes, reads, slots, n=self.n, tolerance=tolerance)
            masks = masks_of(product.mask, columns, self.dimension, biased=False)
            row |= masks.row(first, second)
            if second == "key":
                row[f"{second}/weight/bits"] = pack(product.mask.T)
            found.append(Found(Layer(wanted, None), product))
        return Ticket(fingerprint, row, tuple(found))


@torch.no_grad()
def relative_error(model: Modulated, task: int, products: HeadProducts, x: Tensor) -> float:
    """``max |y~ - y| / |y|`` over sequences (B, T, d), in float64: y what the head adds, y~ what masks leave of the random one.

    Args:
        model: a random head with the masks of tickets (`RandomHead.model`).
        task: one of its tasks.
        products: of the head that the ticket of this task was found for.
        x: the sequences.

    """
    x = tensor(x, "sequences", 3).double()
    if not bool(torch.isfinite(x).all()):
        raise RefusedError("an error is measured at finite sequences; got NaN or infinity; leave such ones out")
    wanted = instance(products, HeadProducts, "the products of a head")(x)
    found = in_doubles(instance(model, Modulated, "model"))(x, task=task_id(task))
    sizes = wanted.flatten(1).norm(dim=1)
    if not bool((sizes > 0).all()):
        raise RefusedError("an error is relative to what the head adds; to one sequence it adds 0; leave that out")
    return float(((found - wanted).flatten(1).norm(dim=1) / sizes).max())
