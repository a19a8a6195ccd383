"""What goes into layers and comes out of them, for rules that grow wires between units that are active together."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neuromod.errors import RefusedError
from neuromod.modulated import Modulated
from neuromod.target.sites import Site

Heard = dict[str, tuple[Tensor, Tensor]]


class Hearing:
    """The last inputs and outputs of the linear layers at some sites, kept while it listens.

    Args:
        model: whose layers they are; while it listens each has a hook.
        sites: weights of linear layers; others are refused.

    """

    def __init__(self, model: Modulated, sites: Sequence[Site]) -> None:
        self._heard: Heard = {}
        self._hooks: list[RemovableHandle] = []
        self._layers = {site.name: model.skeleton.net.get_submodule(site.module) for site in sites}
        for name, module in self._layers.items():
            if not isinstance(module, nn.Linear) or name.rpartition(".")[2] != "weight":
                raise RefusedError(
                    f"activity is read of linear layers; {name!r} is of a {type(module).__name__}; hold the rule to linear sites"
                )

    def listen(self, on: bool) -> None:
        """Keep what comes, or not and forget it: activity is read at updates alone."""
        while not on and self._hooks:
            self._hooks.pop().remove()
        if not on:
            self._heard.clear()
        elif not self._hooks:
            self._hooks = [
                module.register_forward_hook(partial(_hear, self._heard, name)) for name, module in self._layers.items()
            ]

    def heard(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Inputs (samples, in) and outputs (samples, out) of a site's layer in its last forward, all axes but the last folded."""
        return self._heard.get(name)


def _hear(heard: Heard, name: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
    (x,) = args
    heard[name] = x.detach().flatten(0, -2), output.detach().flatten(0, -2)
