"""A module as a function of some of its tensors, under three declared sets: fast, slow, plastic."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from neuromod.arguments import instance, shown
from neuromod.errors import RefusedError, nearest
from neuromod.meta.inner import check_fast
from neuromod.meta.norms import check_exact, unfused
from neuromod.target.substitute import call_with


class Functional:
    """A network, plain or modulated, as a function of its fast tensors.

    - *fast*: moved by the inner loop; passed to every call. Whether the module's own asks for a gradient is no matter.
    - *slow*: all other parameters; moved by the outer loop, which is an ordinary optimiser over ``net.parameters()``.
    - *plastic*: what learns when the network is deployed, at meta-test; by default what is fast.

    RefusedError for a pattern that names nothing, and for norms that would be wrong at second order.

    Args:
        net: any module.
        fast: names of parameters, or patterns (``"head.*"``).
        plastic: likewise; None: what is fast.

    """

    def __init__(
        self, net: nn.Module, fast: str | Sequence[str], *, plastic: str | Sequence[str] | None = None
    ) -> None:
        check_exact(net)
        self.net = net
        self.fast = _names(net, fast)
        self.slow = tuple(name for name, _ in net.named_parameters() if name not in self.fast)
        self._shapes = {name: p.shape for name, p in self.start().items()}
        self.plastic = self.fast if plastic is None else _names(net, plastic)

    def deployed(self) -> "Functional":
        """The same network as a function of what is plastic: the fast set of the loop at meta-test."""
        return Functional(self.net, self.plastic)

    def start(self) -> dict[str, Tensor]:
        """The fast tensors as they are before the first inner step: the module's own parameters."""
        own = dict(self.net.named_parameters())
        return {name: own[name] for name in self.fast}

    def __call__(self, fast: Mapping[str, Tensor], *inputs: Any, **options: Any) -> Any:
        """The output with these in the place of the fast tensors. RefusedError for other names or shapes than those declared.

        Args:
            fast: all fast tensors by name.
            inputs: positional arguments of the network.
            options: keyword arguments of the network.

        """
        check_fast(fast)
        if fast.keys() != set(self.fast):
            wrong = next((n for n in fast if n not in self.fast), None)
            missing = next((n for n in self.fast if n not in fast), None)
            got = f"{wrong!r}, which is none" if wrong is not None else f"all but {missing!r}"
            raise RefusedError(f"a call is given the fast tensors, all of them; got {got}; pass what start() names")
        for name, wanted in self._shapes.items():
            if instance(fast[name], Tensor, f"the fast {name!r}").shape != wanted:
                got = f"{name!r} of {tuple(fast[name].shape)} for {tuple(wanted)}"
                raise RefusedError(f"a fast tensor keeps its shape; got {got}; correct it")
        with unfused():
            return call_with(self.net, fast, *inputs, **options)


def _names(net: nn.Module, patterns: str | Sequence[str]) -> tuple[str, ...]:
    known = [name for name, _ in net.named_parameters()]
    found: dict[str, None] = {}
    listed = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(listed, list | tuple | set | frozenset) or not all(isinstance(p, str) for p in listed):
        raise RefusedError(f"a set names parameters, by text or a list of it; got {shown(patterns)}; pass '*', say")
    for pattern in listed:
        matched = [name for name in known if fnmatchcase(name, pattern)]
        if not matched:
            raise RefusedError(
                f"a set names parameters of the network; got {pattern!r}; nearest: {nearest(pattern, known)}"
            )
        found |= dict.fromkeys(matched)
    return tuple(name for name in known if name in found)
