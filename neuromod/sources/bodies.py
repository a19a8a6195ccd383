"""Bodies: the small networks between an embedding and the head of a shared source."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from neuromod.arguments import count, shown
from neuromod.errors import RefusedError
from neuromod.modes import evaluating
from neuromod.sources.base import Starts
from neuromod.sources.embeddings import Embeddings


class Body(nn.Sequential):
    """The default body: ``relu(W x + b)`` once for each width of ``hidden``, (rows, ...) flattened to (rows, n).

    Args:
        n: numbers that go in.
        hidden: widths of the layers; the last is the number of features.
        dtype: of the weights.
        rng: a CPU generator; weights are ``N(0, 2 / inputs)``, biases 0.

    """

    def __init__(self, n: int, hidden: Sequence[int], dtype: torch.dtype, rng: torch.Generator) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise((n, *hidden)):
            layer = nn.utils.skip_init(nn.Linear, a, b, dtype=dtype)
            drawn = torch.randn(b, a, generator=rng) * (2 / a) ** 0.5
            with torch.no_grad():
                layer.weight.copy_(drawn)
                layer.bias.zero_()
            layers += [layer, nn.ReLU()]
        super().__init__(nn.Flatten(), *layers)
        self.inputs = n

    def forward(self, codes: Tensor) -> Tensor:
        if codes.flatten(1).shape[1] != self.inputs:
            raise RefusedError(
                f"the hidden layers were made for {self.inputs} numbers, those of the example; got {tuple(codes.shape[1:])}; pass "
                "inputs of its size, or body= that takes any"
            )
        features: Tensor = super().forward(codes)  # type: ignore[no-untyped-call]
        return features


class SetEncoder(nn.Module):
    """``mean over items of body(item)``: (rows, items, ...) to (rows, features), whatever the order of the items.

    Deep sets (Zaheer et al. 2017, theorem 2); the encoder of a support set in CNAPs (Requeima et al. 2019, section 2.2).
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        if not isinstance(body, nn.Module):
            raise RefusedError(f"a set encoder pools what a module makes of each item; got {shown(body)}; pass one")
        self.body = body

    def forward(self, sets: Tensor) -> Tensor:
        features: Tensor = self.body(sets.flatten(0, 1))
        pooled: Tensor = features.unflatten(0, sets.shape[:2]).mean(1)
        return pooled


def widths_of(hidden: int | Sequence[int]) -> tuple[int, ...]:
    """Widths of hidden layers, from one or several of at least 1."""
    several = (
        isinstance(hidden, Iterable) and not isinstance(hidden, str | bytes) and getattr(hidden, "shape", None) != ()
    )
    try:
        widths = tuple(count(n, "a width", least=1) for n in (hidden if several else (hidden,)))  # type: ignore[union-attr]
    except RefusedError:
        widths = ()
    if not widths:
        raise RefusedError(f"hidden layers have widths of at least 1; got {shown(hidden)}; pass hidden=64 or [64, 32]")
    return widths


def body_for(
    body: nn.Module | None, hidden: int | Sequence[int], codes: Embeddings, example: Tensor, starts: Starts
) -> nn.Module:
    """The given body, or the default one; each item of a support set goes through it and the features are averaged.

    Args:
        body: the user's, or None.
        hidden: width or widths of the default one; a width below 1 is refused.
        codes: the embeddings that it will read; says whether they are support sets.
        example: embeddings (rows, ...) like those to come.
        starts: gives dtype, device and the draws of the default one.

    """
    if body is None:
        item = example.flatten(0, 1) if codes.is_set else example
        widths = widths_of(hidden)
        n = item.flatten(1).shape[1]
        body = Body(n, widths, starts.dtype, starts.generator("body")).to(starts.device)
    return SetEncoder(body) if codes.is_set else body


def features_of(body: nn.Module, codes: Tensor) -> int:
    """The width of a body's output; refuses one that does not map (rows, ...) to (rows, features)."""
    try:
        with torch.no_grad(), evaluating(body):
            features = body(codes)
    except (RuntimeError, TypeError, IndexError) as error:
        raise RefusedError(
            f"a body must take embeddings of shape {tuple(codes.shape)}, {codes.dtype}; it says: {str(error).splitlines()[0]}; "
            "pass one that does"
        ) from error
    shown = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(codes):
        raise RefusedError(
            f"a body must map embeddings (rows, ...) to (rows, features); got {tuple(codes.shape)} to {shown}; "
            "flatten or pool at its end"
        )
    return int(features.shape[1])


def freeze(body: nn.Module) -> None:
    """Turn every parameter into a buffer, in eval mode: a fixed network that no optimiser finds."""
    body.eval()
    for module in body.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                del module._parameters[name]
                module.register_buffer(name, parameter.detach())
