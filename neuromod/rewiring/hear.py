"""What goes into layers and comes out of them, for rules that grow wires between units that are active together."""

from collections.abc import Sequence
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
        model: whose layers they are; each has a hook while it listens, and none else.
        sites: weights of linear layers; others are refused.

    """

    def __init__(self, model: Modulated, sites: Sequence[Site]) -> None:
        self._model, self._layers = model, {site.name: site.module for site in sites}
        self._heard: Heard = {}
        self._hooks: list[RemovableHandle] = []
        for site in sites:
            module = model.skeleton.layer(site.module)
            if not isinstance(module, nn.Linear) or site.name.rpartition(".")[2] != "weight":
                raise RefusedError(
                    f"activity is read of linear layers; {site.name!r} is of a {type(module).__name__}; hold the rule to linear sites"
                )

    def listen(self, on: bool) -> None:
        """Keep what comes, or forget it: it is read at updates alone."""
        if on and not self._hooks:
            layers = {name: self._model.skeleton.layer(layer) for name, layer in self._layers.items()}
            self._hooks = [layer.register_forward_hook(_Ear(self._heard, name)) for name, layer in layers.items()]
        elif not on:
            while self._hooks:
                self._hooks.pop().remove()
            self._heard.clear()

    def heard(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Inputs (samples, in) and outputs (samples, out) of a site's layer in its last forward, all axes but the last folded."""
        return self._heard.get(name)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_hooks": bool(self._hooks)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_hooks": []})
        if state["_hooks"]:
            self.listen(True)


class _Ear:
    """The hook of one layer. A copy of the layer has a deaf one: whoever copies the hearing beside it hooks the copy anew."""

    def __init__(self, heard: Heard | None = None, name: str = "") -> None:
        self.heard, self.name = heard, name

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if self.heard is not None:
            (x,) = args
            self.heard[self.name] = _rows(x), _rows(output)

    def __reduce__(self) -> tuple[type["_Ear"], tuple[()]]:
        return _Ear, ()


def _rows(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1])
