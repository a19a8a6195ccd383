"""What goes into layers and comes out of them, for rules that grow wires between units that are active together."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.target.sites import Site

Heard = dict[str, tuple[Tensor, Tensor]]


class Hearing:
    """The last inputs and outputs of the linear layers at some sites, kept where it listens.

    Args:
        model: whose layers they are; each gets a hook.
        sites: weights of linear layers; others are refused.

    """

    def __init__(self, model: Modulated, sites: Sequence[Site]) -> None:
        self._heard: Heard = {}
        self._on = [True]
        for site in sites:
            module = model.skeleton.net.get_submodule(site.module)
            if not isinstance(module, nn.Linear) or site.name.rpartition(".")[2] != "weight":
                raise RefusedError(
                    f"activity is read of linear layers; {site.name!r} is of a {type(module).__name__}; hold the rule to linear sites"
                )
            module.register_forward_hook(partial(_hear, self._heard, self._on, site.name))

    def listen(self, on: bool) -> None:
        """Keep what comes, or not: it is read at updates alone."""
        self._on[0] = on

    def heard(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Inputs (samples, in) and outputs (samples, out) of a site's layer in its last forward, all axes but the last folded."""
        return self._heard.get(name)


def _hear(heard: Heard, on: list[bool], name: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
    if on[0]:
        (x,) = args
        heard[name] = x.detach().flatten(0, -2), output.detach().flatten(0, -2)
