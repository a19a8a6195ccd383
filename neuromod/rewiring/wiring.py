"""`Wiring`: which places of a row have a wire, and that no other has a number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from neuromod.arguments import count, named, number, shown, tensors
from neuromod.errors import RefusedError, nearest
from neuromod.kinds.base import Kind
from neuromod.kinds.bits import pack, packed_size, unpack
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator
from neuromod.rewiring.rule import Rule, how_many, select
from neuromod.seeds import generator
from neuromod.sources.base import ALL
from neuromod.sources.table import Table
from neuromod.target.sites import Site


class Wiring:
    """The wires of one row of a modulator: where they are, since when, and the numbers that they hold. `Rewiring` moves them."""

    model: Modulated
    modulator: Modulator
    kind: Kind
    rule: Rule
    steps: int
    seed: int
    task: int | None
    sites: tuple[Site, ...]
    values: dict[str, Tensor]
    wires: dict[str, Tensor]
    births: dict[str, Tensor]
    starts: dict[str, Tensor]
    latents: dict[str, Tensor]
    target_counts: dict[str, int]
    done: int
    _masks: dict[str, tuple[Tensor, Tensor]]

    def shuffle(self, seed: int) -> None:
        """Put the wires of each site at random places of it, with the numbers of the start.

        The control that keeps how many a layer has, and nothing else (Frankle et al. 2021, section 4).
        """
        for name, wires in self.wires.items():
            order = torch.randperm(wires.numel(), generator=generator(seed, "shuffle", name)).to(wires.device)
            self.wires[name] = wires.flatten()[order].view_as(wires)
        self.rewind()

    @torch.no_grad()
    def rewind(self, row: Mapping[str, Tensor] | None = None) -> None:
        """Set the numbers of the wires back; which wires there are stays.

        Args:
            row: by site name, what they are set to: their values after k steps, say (Frankle et al. 2020); None: their start.

        """
        for name, value in self._of_sites(self.starts if row is None else row, "a row to rewind to").items():
            self.values[name].copy_(value)
            if name in self.latents:
                self.latents[name].copy_(value)
        self._hold_all()

    def counts(self) -> dict[str, int]:
        """Wires of each site now; those whose number is 0 are wires too."""
        return {name: int(wires.sum()) for name, wires in self.wires.items()}

    def ages(self) -> dict[str, Tensor]:
        """Steps since each wire was grown, int32 of the weight's shape; -1 where there is none."""
        return {name: torch.where(self.wires[name], self.done - born, -1) for name, born in self.births.items()}

    def state_dict(self) -> dict[str, Any]:
        """All that is not in the model's own state: wires (a bit each), their births, latent numbers, the step."""
        keep = {"births": self.births, "latents": self.latents, "starts": self.starts}
        wires = {name: pack(wires) for name, wires in self.wires.items()}
        return {"done": self.done, "wires": wires} | {k: dict(v) for k, v in keep.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave; the model and the optimiser load their own.

        Refused: a state of other sites, or of a rule that keeps other numbers.
        """
        self._refuse_state(state)
        self.done = state["done"]
        for name, bits in state["wires"].items():
            self.wires[name] = unpack(bits, tuple(self.wires[name].shape)).bool().to(self.wires[name].device)
        for name, born in state["births"].items():
            self.births[name] = born.to(self.births[name].device, copy=True)
        for held, key in ((self.latents, "latents"), (self.starts, "starts")):
            held.update({name: value.to(self.values[name]).clone() for name, value in state[key].items()})
        self._ready()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _chosen(self, names: Sequence[str] | None) -> tuple[Site, ...]:
        own = {site.name: site for site in self.modulator.sites}
        if names is not None and (
            isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names)
        ):
            raise RefusedError(f"a rule is held to sites by their names; got {shown(names)}; pass {list(own)[:1]}, say")
        for name in names or ():
            if name not in own:
                raise RefusedError(
                    f"a rule is held to sites of its modulator; got {name!r}; nearest: {nearest(name, own)}"
                )
        if names is not None and (not names or len(set(names)) < len(names)):
            raise RefusedError(f"a rule is held to one site or more, each named once; got {shown(names)}; correct it")
        return tuple(own[name] for name in (own if names is None else names))

    def _row(self, sites: Sequence[Site]) -> dict[str, Tensor]:
        part, source = self.kind.wired, self.modulator.source
        if part is None:
            raise RefusedError(
                f"a rule moves wires; {self.modulator.name} has none; take a mask, Wires, or Generated with identity=True"
            )
        if not isinstance(source, Table):
            raise RefusedError(
                f"a rule moves the wires of a row that is learned itself; {type(source).__name__} makes rows; take a Table"
            )
        if (self.task is None) != (source.reads == "nothing"):
            got = f"task={shown(self.task)} of {'one row' if self.task is not None else 'a row per task'}"
            raise RefusedError(
                f"a rule moves the wires of one row; got {got}; pass the task where the table has a row for each"
            )
        row = source.own(ALL if self.task is None else self.task)
        return {site.name: row[f"{site.label}/{part}"] for site in sites}

    def _refuse_room(self, counts: Mapping[str, int]) -> None:
        for site in self.sites:
            least, most = self.kind.room(site)
            wanted = counts[site.name]
            if not least <= wanted <= most:
                room = f"{least}" if least == most else f"{most} at most"
                rule = f"{self.modulator.name} has {room} wires at {site.name!r}, of {math.prod(site.shape)} places"
                raise RefusedError(
                    f"{rule}; the rule wants {wanted}; give both the same density, scope='uniform' and cut='drawn'"
                )

    def _begin(self, site: Site) -> Tensor:
        size, device = math.prod(site.shape), self.values[site.name].device
        if self.rule.born == "latent":
            strength = self.kind.strength(self.latents[site.name]).flatten()
            return select(strength, self.target_counts[site.name]).view(site.shape)
        if self.rule.cut != "drawn":
            return torch.ones(site.shape, dtype=torch.bool, device=device)
        order = torch.randperm(size, generator=generator(self.seed, "wires", self.task, site.name))
        wires = torch.zeros(size, dtype=torch.bool)
        wires[order[: self.target_counts[site.name]]] = True
        return wires.view(site.shape).to(device)

    def _given(self, wires: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        given = self._of_sites(tensors(wires, "wires", masks=True), "wires")
        for site in self.sites:
            if site.name not in given:
                raise RefusedError(
                    f"wires are given for every site; {site.name!r} is {site.shape}, got none; correct it"
                )
            found[site.name] = given[site.name].to(self.values[site.name].device) != 0
            self.target_counts[site.name] = int(found[site.name].sum())
            if not self.target_counts[site.name]:
                raise RefusedError(
                    f"a layer has at least one wire; {site.name!r} is given none; add one, or exclude it"
                )
        return found

    def _of_sites(self, given: Mapping[str, Tensor], what: str) -> Mapping[str, Tensor]:
        """Finite numbers of some of the sites, each of the shape of its weight; others are refused."""
        for name, value in tensors(given, what, masks=True).items():
            if name not in self.values:
                raise RefusedError(
                    f"{what} names sites of the rule; got {name!r}; nearest: {nearest(name, self.values)}"
                )
            shape = tuple(self.values[name].shape)
            if tuple(value.shape) != shape:
                raise RefusedError(
                    f"{what} has the shape of each weight; {name!r} is {shape}, got {tuple(value.shape)}; correct it"
                )
            if not bool(torch.isfinite(value).all()):
                raise RefusedError(f"{what} must be finite; {name!r} has NaN or infinity; correct it")
        return given

    def _shares(self, shares: float | Mapping[str, float]) -> dict[str, float]:
        """The share of the wires of each site that is cut."""
        each = named(shares, "shares by site") if isinstance(shares, Mapping) else dict.fromkeys(self.wires, shares)
        if set(each) != set(self.wires):
            odd = next(name for name in (*each, *self.wires) if name not in self.wires or name not in each)
            raise RefusedError(
                f"shares name every site, and no other; got {list(each)}, by {odd!r}; name {list(self.wires)}"
            )
        return {name: number(p, f"the share of {name!r} that is cut", least=0, below=1) for name, p in each.items()}

    def _falling(self) -> int:
        """The step of the schedule by which a density falls: at the last update its last, wherever that update stands."""
        last = self.rule.last(self.steps)
        return last if self.done + self.rule.every > min(last, self.steps - 1) else self.done

    def _refuse_optimizer(self, optimizer: Any) -> None:
        known = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
        lacking = [name for name, value in self.values.items() if id(value) not in known]
        if lacking:
            raise RefusedError(
                f"the optimiser of a step has the numbers of the wires; {shown(type(optimizer).__name__)} has none of "
                f"{lacking[0]!r}; make it of model.parameters()"
            )

    def _refuse_lost(self, name: str, there: int, wanted: int) -> None:
        """Growth keeps the count: a score of minus infinity is no place."""
        if self.rule.grow is not None and there < min(wanted, how_many(self.wires[name])):
            raise RefusedError(
                f"wires need a place each; the score {shown(self.rule.grow)} leaves {name!r} {there} of {wanted}; give more places "
                "a score above -inf"
            )

    def _refuse_state(self, state: Any) -> None:
        rule = "a state of wires is what state_dict() gave for the same sites and rule"
        parts = {"wires": self.wires, "births": self.births, "starts": self.starts, "latents": self.latents}
        if not isinstance(state, Mapping) or not {"done", *parts} <= set(state):
            raise RefusedError(f"{rule}; got {shown(list(state) if isinstance(state, Mapping) else state)}; pass one")
        count(state["done"], "the step of a state of wires")
        for part, own in parts.items():
            given = named(state[part], f"{part} of a state of wires")
            if set(given) != set(own):
                raise RefusedError(
                    f"{rule}; its {part} are of {list(given)}, not of {list(own)}; load it where it was saved"
                )
            sizes = {name: packed_size(v.numel()) if part == "wires" else v.numel() for name, v in own.items()}
            wrong = [name for name, value in given.items() if value.numel() != sizes[name]]
            if wrong:
                raise RefusedError(
                    f"{rule}; its {part} at {wrong[0]!r} are of another shape; load it where it was saved"
                )

    def _mask(self, name: str) -> Tensor:
        """The wires of a site as 0 and 1 of the dtype of their numbers, made anew where the wires are others."""
        wires, value = self.wires[name], self.values[name]
        of, mask = self._masks.get(name, (None, None))
        if of is not wires or mask is None:
            mask = wires.to(value.dtype)
            self._masks[name] = wires, mask
        return mask

    def _ready(self) -> None:
        """What moving the wires needs, at the start and behind a load."""

    @torch.no_grad()
    def _hold_all(self, *, rescale: bool = False) -> None:
        for site in self.sites:
            value, wires = self.values[site.name], self.wires[site.name]
            value.copy_(self.kind.hold(site, value, self._mask(site.name)))
            if rescale:
                value.mul_(math.sqrt(value.numel() / max(int(wires.sum()), 1)))
