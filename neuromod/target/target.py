"""`Target`: the frozen network. It says what can be modulated and proves that nothing of it moved."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from neuromod.arguments import flag, instance, one_of
from neuromod.errors import AbsentError, RefusedError
from neuromod.target.axes import PLACEMENTS, acting, batch_axis, channel_axis, neighbour
from neuromod.target.copying import digest_of, refuse_foreign, tensors_of
from neuromod.target.example import parse_example
from neuromod.target.mapped import unmapped
from neuromod.target.modes import drawing
from neuromod.target.named import NORMS, Unused, parameters
from neuromod.target.probe import probe
from neuromod.target.recipe import Recipe
from neuromod.target.sites import Pattern, Site, choose
from neuromod.target.skeleton import Skeleton, build


class Target:
    """A frozen network and the places where it can be modulated.

    Args:
        net: a plain `nn.Module` with dense tensors; it is copied (storage of the parameters is shared) and never touched. An
            edit of its weights in place does move the target, for storage is shared: `verify` tells.
        example: a tensor, or a tuple of tensors, that ``net`` takes by position. Three forwards and a backward on samples like
            it show what the network does (`Probe`).
        norm: ``"frozen"`` keeps the running statistics of BatchNorm; ``"batch"`` trains with the statistics of each
            task's batch and needs a `Statistics` modulator, filled by `calibrate`, for evaluation.
        batch_axis: the batch axis of the inputs: one for all, or one for each input, with None for an input that all samples
            share (a grid, an adjacency, a time step).
        dropout: whether modules that draw at random in training (dropout of any make, stochastic depth) do so; otherwise the
            network runs in eval mode throughout.
        recipe: how the network came about, if it is random; set by `from_recipe`.

    """

    def __init__(
        self,
        net: nn.Module,
        example: Tensor | Sequence[Tensor],
        *,
        norm: Literal["frozen", "batch"] = "frozen",
        batch_axis: int | Sequence[int | None] = 0,
        dropout: bool = False,
        recipe: Recipe | None = None,
    ) -> None:
        one_of(norm, "norm", ("frozen", "batch"))
        flag(dropout, "dropout")
        refuse_foreign(net)
        self.example, self.axes = parse_example(example, batch_axis)
        self.norm, self.dropout, self.recipe = norm, dropout, recipe
        self.pristine = build(net, norm="frozen")
        self._hash = digest_of(self.pristine)
        self.probe = probe(self.pristine, self.example, self.axes)
        self.draws = frozenset[str]()
        if dropout:
            self.draws, keeps = drawing(self.pristine, self.example)
            self.probe = replace(self.probe, fresh=self.probe.fresh or keeps)

    @property
    def batch_axis(self) -> int:
        """The batch axis of the first input that has one."""
        return next(axis for axis in self.axes if axis is not None)

    @cached_property
    def unmapped(self) -> str | None:
        """Why `torch.vmap` can't run batches of the network side by side; None where it can."""
        return unmapped(self.skeleton(), self.example)

    @classmethod
    def from_recipe(cls, recipe: Recipe, example: Tensor | Sequence[Tensor], **options: Any) -> "Target":
        """The target of a random network, drawn by its recipe.

        Args:
            recipe: constructor, initialisation and seed.
            example: a tensor, or several, that the network takes.
            options: those of `Target`: norm, batch_axis, dropout.

        """
        return cls(instance(recipe, Recipe, "the recipe of a target").build(), example, recipe=recipe, **options)

    def __call__(self, *inputs: Tensor) -> Any:
        """The unmodulated network in eval mode."""
        if self.probe.fresh or self.probe.writes_inputs:
            return self.skeleton()({}, inputs)
        return self.pristine(*inputs)

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.pristine.parameters())
        return f"Target({type(self.pristine).__name__}, {count:,} frozen weights, norm={self.norm!r}, {self.fingerprint()[:12]})"

    def fingerprint(self) -> str:
        """SHA-256 over names, shapes, dtypes and bytes of all parameters and buffers, taken when the target was made."""
        return self._hash

    def verify(self) -> None:
        """Raise if a byte of the target has moved since it was made (an edit in place of the user's weights, say)."""
        now = digest_of(self.pristine)
        if now != self._hash:
            raise RefusedError(
                f"a target never moves; its fingerprint was {self._hash[:12]} and is {now[:12]}; "
                "give Target a copy of the network before training or editing it in place"
            )

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers by name, tied ones under each of their names."""
        return tensors_of(self.pristine)

    def like(self) -> Tensor:
        """An empty tensor of the dtype and on the device of the target's weights."""
        found = next((v for v in self.tensors().values() if v.is_floating_point()), torch.empty(0))
        return found.new_empty(0)

    def skeleton(self, taps: Iterable[Site] = ()) -> Skeleton:
        """The network that runs for one `Modulated`: a copy that shares the parameters, with taps at these sites."""
        return Skeleton(self.pristine, taps, probe=self.probe, norm=self.norm, dropout=self.dropout, draws=self.draws)

    # ---- sites -----------------------------------------------------------------------------------------------------

    def weights(
        self, *patterns: Pattern, exclude: Pattern | Sequence[Pattern] = (), unused: Unused = "refuse"
    ) -> tuple[Site, ...]:
        """Parameters called weight of two axes or more, norms' apart, and what a parametrized one is computed from; all if no pattern.

        Any other parameter (a bias, a class token) is chosen by its exact name alone. Tied weights are one site. Refused: a pattern
        that matches nothing, a weight that does not act, one that is not real, and one that a parametrization computes.

        >>> target = Target(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(2, 3))
        >>> [site.name for site in target.weights(exclude="2")]
        ['0.weight']

        Args:
            patterns: as of `outputs`, over names of tensors and of their modules.
            exclude: one such pattern or several, left out.
            unused: "refuse" or "skip" weights that the forward does not read, or that no gradient reaches.

        """
        names, own = parameters(self.pristine, self.probe, patterns, exclude, unused, "weight"), self.tensors()
        return tuple(self._weight(n, own[n]) for n in names)

    def biases(
        self, *patterns: Pattern, exclude: Pattern | Sequence[Pattern] = (), unused: Unused = "refuse"
    ) -> tuple[Site, ...]:
        """Parameters called bias, norms' among them, for `Generated` (BitFit, Ben Zaken et al. 2022); all if no pattern.

        >>> target = Target(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(2, 3))
        >>> [site.name for site in target.biases()]
        ['0.bias', '2.bias']

        Args:
            patterns: as of `weights`.
            exclude: one such pattern or several, left out.
            unused: as of `weights`.

        """
        names, own = parameters(self.pristine, self.probe, patterns, exclude, unused, "bias"), self.tensors()
        return tuple(self._weight(n, own[n]) for n in names)

    def outputs(
        self,
        *patterns: Pattern,
        exclude: Pattern | Sequence[Pattern] = (),
        channel: int | None = None,
        unused: Unused = "refuse",
    ) -> tuple[Site, ...]:
        """Outputs of modules (the first tensor of a tuple, dict or dataclass), modulated per channel. At least one pattern is needed.

        Refused: no pattern (a container puts out what its last layer does, so "all" would modulate it twice), a module that the
        forward does not call, and one called several times with other channels or axes.

        >>> target = Target(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.ones(2, 3))
        >>> [site.name for site in target.outputs(nn.ReLU)]
        ['1']

        Args:
            patterns: globs over names, regular expressions, types, or ``f(name, module) -> bool``.
            exclude: one such pattern or several, left out.
            channel: axis of the channels, where neither the module's type nor the layers beside it say it.
            unused: "refuse" or "skip" modules that the forward does not call, or whose outputs no gradient reaches.

        """
        if not patterns:
            raise RefusedError(
                "outputs() takes at least one pattern, for a container puts out what its last layer does; got none; pass "
                "outputs(nn.ReLU) or outputs('layer*'), or take norms(), which without a pattern means all norms"
            )
        candidates = {name: ((name,), module) for name, module in self.pristine.named_modules() if name}
        names = choose(candidates, patterns, exclude, "module")
        return tuple(self._output(name, channel) for name in acting(self.pristine, self.probe, names, "output", unused))

    def norms(
        self,
        *patterns: Pattern,
        exclude: Pattern | Sequence[Pattern] = (),
        placement: str = "after",
        unused: Unused = "refuse",
    ) -> tuple[Site, ...]:
        """Outputs of normalisation layers (Batch-, Layer-, Group-, Instance- and RMSNorm); all if no pattern.

        Refused: a placement that finds no module of its own beside each norm.

        Args:
            patterns: as of `outputs`, over norms alone.
            exclude: one pattern or several, left out.
            placement: as in FiLM (Perez et al. 2018, section 4.3): "before" the norm (the output of the module that feeds it),
                "after" it, or after the "activation" that reads it.
            unused: as of `outputs`.

        """
        one_of(placement, "placement", PLACEMENTS)
        found = {n: ((n,), m) for n, m in self.pristine.named_modules() if isinstance(m, NORMS)}
        names = choose(found, patterns or ("*",), exclude, "norm")
        sites = tuple(self._output(name, None) for name in acting(self.pristine, self.probe, names, "norm", unused))
        if placement == "after":
            return sites
        beside = {s.name: neighbour(self.pristine, self.probe, s.name, placement) for s in sites}
        shared = [n for n, m in beside.items() if list(beside.values()).count(m) > 1]
        if shared:
            raise RefusedError(
                f"placement={placement!r} needs a module of its own for each norm; {shared[0]!r} and {shared[1]!r} share "
                f"{beside[shared[0]]!r}; give the network separate modules, or choose it once with outputs(...)"
            )
        return tuple(self._output(beside[s.name], s.channel) for s in sites)

    def statistics(self, *patterns: Pattern, exclude: Pattern | Sequence[Pattern] = ()) -> tuple[Site, ...]:
        """Running means and variances of BatchNorm layers (buffer sites, for the kind `Statistics`)."""
        found = {n: ((n,), m) for n, m in self.pristine.named_modules() if isinstance(m, _BatchNorm)}
        names = choose(found, patterns or ("*",), exclude, "BatchNorm")
        leaves = ("running_mean", "running_var")
        return tuple(Site(f"{n}.{leaf}", "buffer", (found[n][1].num_features,), n) for n in names for leaf in leaves)

    def head(self) -> tuple[Site, ...]:
        """The weight of the last linear layer that the forward calls (for the kind `Head`), where it is tied in this layer alone."""
        linear = [n for n in self.probe.order if type(self.pristine.get_submodule(n)) is nn.Linear]
        if not linear:
            raise AbsentError("head() needs a linear layer that the forward calls; got none; use weights(...) instead")
        name = f"{linear[-1]}.weight"
        if name not in self.tensors():
            return self.weights(name)  # which says what is wrong with it
        acting(self.pristine, self.probe, [name], "weight", "refuse")
        return (self._weight(name, self.tensors()[name]),)

    # ---- refusals --------------------------------------------------------------------------------------------------

    def _weight(self, name: str, weight: Tensor) -> Site:
        owner, _, leaf = name.rpartition(".")
        if not weight.is_floating_point():
            raise RefusedError(
                f"a weight is modulated in real floating numbers; {name!r} is {weight.dtype}; exclude it, or modulate an output"
            )
        module = self.pristine.get_submodule(owner)
        biased = isinstance(getattr(module, "bias", None), Tensor)
        batch = batch_axis(self.pristine, self.probe, owner) if leaf == "weight" else None
        channel = 1 if isinstance(module, _ConvNd) else -1
        return Site(name, "weight", tuple(weight.shape), owner, channel, batch, biased)

    def _output(self, name: str, channel: int | None) -> Site:
        calls = self.probe.calls[name]
        axes = {channel_axis(self.pristine, self.probe, name, channel)}
        found = {(call.shape[axis], axis, call.batch) for call in calls for axis in axes}
        if len(found) > 1:
            shapes = ", ".join(str(call.shape) for call in calls)
            raise RefusedError(
                f"a module called several times must put out the same channels and axes each time; {name!r} gave {shapes}; "
                "modulate the layers before it instead"
            )
        size, axis, batch = next(iter(found))
        return Site(name, "output", (size,), name, channel=axis, batch=batch)
