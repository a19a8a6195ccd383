"""`Target`: the frozen network. It says what can be modulated and proves that nothing of it moved."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from neuromod.errors import RefusedError, nearest
from neuromod.target.axes import batch_axis, channel_axis, neighbour
from neuromod.target.probe import probe
from neuromod.target.recipe import Recipe
from neuromod.target.sites import Pattern, Site, choose
from neuromod.target.skeleton import Skeleton, build

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
WEIGHTED = (nn.Linear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding)


class Target:
    """A frozen network and the places where it can be modulated.

    Args:
        net: any `nn.Module`; it is copied (storage of the parameters is shared) and never touched. An edit of its
            weights in place does move the target, for storage is shared: `verify` tells.
        example: a tensor, or a tuple of tensors, that ``net`` takes; run twice to learn shapes and batch axes.
        norm: ``"frozen"`` keeps the running statistics of BatchNorm; ``"batch"`` trains with the statistics of each
            task's batch and needs a `Statistics` modulator, filled by `calibrate`, for evaluation.
        batch_axis: the batch axis of the inputs.
        dropout: whether dropout is active in training; otherwise the network runs in eval mode throughout.
        recipe: how the network came about, if it is random; set by `from_recipe`.

    """

    def __init__(
        self,
        net: nn.Module,
        example: Tensor | Sequence[Tensor],
        *,
        norm: Literal["frozen", "batch"] = "frozen",
        batch_axis: int = 0,
        dropout: bool = False,
        recipe: Recipe | None = None,
    ) -> None:
        if norm not in ("frozen", "batch"):
            raise RefusedError(f"norm must be 'frozen' or 'batch'; got {norm!r}; {nearest(norm, ('frozen', 'batch'))}?")
        self.norm, self.batch_axis, self.dropout, self.recipe = norm, batch_axis, dropout, recipe
        self.example = (example,) if isinstance(example, Tensor) else tuple(example)
        self.pristine = build(net, norm="frozen")
        self._refuse_untracked_norms()
        self._hash = _digest(self.pristine)
        self.probe = probe(self.pristine, self.example, batch_axis)

    @classmethod
    def from_recipe(cls, recipe: Recipe, example: Tensor | Sequence[Tensor], **options: Any) -> "Target":
        """The target of a random network, drawn by its recipe.

        Args:
            recipe: constructor, initialisation and seed.
            example: a tensor, or several, that the network takes.
            options: those of `Target`: norm, batch_axis, dropout.

        """
        return cls(recipe.build(), example, recipe=recipe, **options)

    def __call__(self, *inputs: Tensor) -> Any:
        """The unmodulated network in eval mode."""
        return self.pristine(*inputs)

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.pristine.parameters())
        return f"Target({type(self.pristine).__name__}, {count:,} frozen weights, norm={self.norm!r}, {self.fingerprint()[:12]})"

    def fingerprint(self) -> str:
        """SHA-256 over names, shapes, dtypes and bytes of all parameters and buffers, taken when the target was made."""
        return self._hash

    def verify(self) -> None:
        """Raise if a byte of the target has moved since it was made (an edit in place of the user's weights, say)."""
        now = _digest(self.pristine)
        if now != self._hash:
            raise RefusedError(
                f"a target never moves; its fingerprint was {self._hash[:12]} and is {now[:12]}; "
                "give Target a copy of the network before training or editing it in place"
            )

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers by name, tied ones under each of their names."""
        net = self.pristine
        return dict(net.named_parameters(remove_duplicate=False)) | dict(net.named_buffers(remove_duplicate=False))

    def like(self) -> Tensor:
        """An empty tensor of the dtype and on the device of the target's weights."""
        found = next((v for v in self.tensors().values() if v.is_floating_point()), torch.empty(0))
        return found.new_empty(0)

    def skeleton(self, taps: Iterable[Site] = ()) -> Skeleton:
        """The network that runs for one `Modulated`: a copy that shares the parameters, with taps at these sites."""
        return Skeleton(self.pristine, taps, calls=self.probe.calls, norm=self.norm, dropout=self.dropout)

    # ---- sites -----------------------------------------------------------------------------------------------------

    def weights(self, *patterns: Pattern, exclude: Pattern | Sequence[Pattern] = ()) -> tuple[Site, ...]:
        """Weights with two axes or more of Linear, Conv, RNN, attention and Embedding layers; all if no pattern.

        Patterns (as of `outputs`) are matched against the tensor's name and its module's; ``exclude`` is one or several to leave out.
        Any other parameter (a bias, a class token) is chosen by its exact name alone. Tied weights are one site. Refused: a pattern
        that matches nothing, a weight that no forward reads, and one that a parametrization computes.

        >>> target = Target(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(2, 3))
        >>> [site.name for site in target.weights(exclude="2")]
        ['0.weight']
        """
        own = dict(self.pristine.named_parameters())
        first = {id(p): name for name, p in own.items()}
        alias = {n: first[id(p)] for n, p in self.pristine.named_parameters(remove_duplicate=False)}
        named = tuple(alias[p] if isinstance(p, str) and p in alias else p for p in patterns)
        candidates = {}
        for name, weight in own.items():
            prefix, _, leaf = name.rpartition(".")
            module = self.pristine.get_submodule(prefix)
            usual = isinstance(module, WEIGHTED) and weight.ndim >= 2 and "weight" in leaf
            if usual or name in named:
                others = tuple(n for n, canonical in alias.items() if canonical == name)
                modules = tuple(n.rpartition(".")[0] for n in others)
                candidates[name] = ((name, *others, *modules), module)
        self._refuse_parametrized(named)
        names = choose(candidates, named or ("*",), exclude, "weight")
        self._refuse_unused(names, self.probe.used, "weight", "it would never receive a gradient")
        return tuple(self._weight(n, own[n]) for n in names)

    def outputs(
        self, *patterns: Pattern, exclude: Pattern | Sequence[Pattern] = (), channel: int | None = None
    ) -> tuple[Site, ...]:
        """Outputs of modules (the first element of a tuple), modulated per channel. At least one pattern is needed.

        Refused: no pattern (a container puts out what its last layer does, so "all" would modulate it twice), a module that the
        forward does not call, and one called several times with other channels or axes.

        >>> target = Target(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.ones(2, 3))
        >>> [site.name for site in target.outputs(nn.ReLU)]
        ['1']

        Args:
            patterns: globs over names, regular expressions, types, or ``f(name, module) -> bool``.
            exclude: one such pattern or several, left out.
            channel: axis of the channels, where the module's type does not say it (activations of 3-D tensors, own layers).

        """
        if not patterns:
            raise RefusedError(
                "outputs() takes at least one pattern, for a container puts out what its last layer does; got none; pass "
                "outputs(nn.ReLU) or outputs('layer*'), or take norms(), which without a pattern means all norms"
            )
        candidates = {name: ((name,), module) for name, module in self.pristine.named_modules() if name}
        names = choose(candidates, patterns, exclude, "module")
        remedy = "attention does not call its out_proj: choose weights('...out_proj.weight') instead"
        self._refuse_unused(names, self.probe.calls, "output", remedy)
        return tuple(self._output(name, candidates[name][1], channel) for name in names)

    def norms(
        self, *patterns: Pattern, exclude: Pattern | Sequence[Pattern] = (), placement: str = "after"
    ) -> tuple[Site, ...]:
        """Outputs of normalisation layers (Batch-, Layer-, Group-, Instance- and RMSNorm); all if no pattern.

        Refused: a placement that finds no module of its own beside each norm.

        Args:
            patterns: as of `outputs`, over norms alone.
            exclude: one pattern or several, left out.
            placement: as in FiLM (Perez et al. 2018, section 4.3): "before" the norm (the output of the module that feeds it),
                "after" it, or after the "activation" that reads it.

        """
        found = {n: ((n,), m) for n, m in self.pristine.named_modules() if isinstance(m, NORMS)}
        names = choose(found, patterns or ("*",), exclude, "norm")
        self._refuse_unused(names, self.probe.calls, "norm", "exclude it")
        sites = tuple(self._output(name, found[name][1], None) for name in names)
        if placement == "after":
            return sites
        beside = {s.name: neighbour(self.pristine, self.probe, s.name, placement) for s in sites}
        shared = [n for n, m in beside.items() if list(beside.values()).count(m) > 1]
        if shared:
            raise RefusedError(
                f"placement={placement!r} needs a module of its own for each norm; {shared[0]!r} and {shared[1]!r} share "
                f"{beside[shared[0]]!r}; give the network separate modules, or choose it once with outputs(...)"
            )
        return tuple(self._output(beside[s.name], found[s.name][1], s.channel) for s in sites)

    def statistics(self, *patterns: Pattern, exclude: Pattern | Sequence[Pattern] = ()) -> tuple[Site, ...]:
        """Running means and variances of BatchNorm layers (buffer sites, for the kind `Statistics`)."""
        found = {n: ((n,), m) for n, m in self.pristine.named_modules() if isinstance(m, _BatchNorm)}
        names = choose(found, patterns or ("*",), exclude, "BatchNorm")
        leaves = ("running_mean", "running_var")
        return tuple(Site(f"{n}.{leaf}", "buffer", (found[n][1].num_features,), n) for n in names for leaf in leaves)

    def head(self) -> tuple[Site, ...]:
        """The weight of the last linear layer that the forward calls (for the kind `Head`)."""
        linear = [n for n in self.probe.order if type(self.pristine.get_submodule(n)) is nn.Linear]
        if not linear:
            raise RefusedError("head() needs a linear layer that the forward calls; got none; use weights(...) instead")
        return self.weights(f"{linear[-1]}.weight")

    # ---- refusals --------------------------------------------------------------------------------------------------

    def _weight(self, name: str, weight: Tensor) -> Site:
        owner, _, leaf = name.rpartition(".")
        module = self.pristine.get_submodule(owner)
        biased = isinstance(getattr(module, "bias", None), Tensor)
        batch = batch_axis(self.pristine, self.probe, owner) if leaf == "weight" else None
        channel = 1 if isinstance(module, _ConvNd) else -1
        return Site(name, "weight", tuple(weight.shape), owner, channel, batch, biased)

    def _output(self, name: str, module: nn.Module, channel: int | None) -> Site:
        calls = self.probe.calls[name]
        axes = {channel_axis(name, module, call, channel) for call in calls}
        found = {(call.shape[axis], axis, call.batch) for call in calls for axis in axes}
        if len(found) > 1:
            shapes = ", ".join(str(call.shape) for call in calls)
            raise RefusedError(
                f"a module called several times must put out the same channels and axes each time; {name!r} gave {shapes}; "
                "modulate the layers before it instead"
            )
        size, axis, batch = next(iter(found))
        return Site(name, "output", (size,), name, channel=axis, batch=batch)

    def _refuse_unused(self, names: Sequence[str], used: Any, what: str, remedy: str) -> None:
        unused = [n for n in names if n not in used]
        if unused:
            raise RefusedError(
                f"a site must be used by the forward; {what} {unused[0]!r} is not; {remedy}, or exclude it"
            )

    def _refuse_parametrized(self, patterns: Sequence[Pattern]) -> None:
        for name, module in self.pristine.named_modules():
            if not parametrize.is_parametrized(module):
                continue
            for leaf in module.parametrizations:
                full = f"{name}.{leaf}".lstrip(".")
                if full in patterns:
                    stored = f"{name}.parametrizations.{leaf}.original".lstrip(".")
                    raise RefusedError(
                        f"{full!r} is computed by a parametrization; modulate {stored!r} or outputs({name!r})"
                    )

    def _refuse_untracked_norms(self) -> None:
        for name, module in self.pristine.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                raise RefusedError(
                    f"a BatchNorm must keep running statistics; {name!r} has track_running_stats=False; switch it on and "
                    "pass norm='batch' to train on batch statistics"
                )


@torch.no_grad()
def _digest(net: nn.Module) -> str:
    digest = hashlib.sha256()
    tensors = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    for name, tensor in sorted(tensors):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
