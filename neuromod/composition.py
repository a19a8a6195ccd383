"""Which modulators go together on a target, and under which names."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from neuromod.arguments import instance, task_id
from neuromod.errors import RefusedError
from neuromod.modulator import Modulator
from neuromod.sources.base import Row
from neuromod.sources.loading import Loading, is_whole
from neuromod.target.skeleton import Skeleton
from neuromod.target.substitute import Edits, check, ties_of
from neuromod.target.target import Target

Modulators = Mapping[str, Modulator]
TASK_ROWS = ("source.rows", "source.codes.table", "sealed.stacks")
"""Where the rows of tasks stand in the state of a modulator."""


def by_name(modulators: Sequence[Modulator]) -> dict[str, Modulator]:
    """Modulators by the name of their kind in lower case, in the order given; a second one of the kind gets ``_2``."""
    named: dict[str, Modulator] = {}
    for modulator in modulators:
        instance(modulator, Modulator, "a modulator of a model")
        base = modulator.name.lower()
        taken = sum(name.partition("_")[0] == base for name in named)
        named[base if not taken else f"{base}_{taken + 1}"] = modulator
    return named


class Composition(Loading):
    """Modulators that act on one target in the order given, by name: what `Modulated` is beside a network.

    Args:
        modulators: in order; their names are `by_name`'s.

    """

    def __init__(self, modulators: Sequence[Modulator]) -> None:
        super().__init__()
        # Saved states have the modulators under this name; to read them there are `named_modulators` and `readers`.
        self.modulators = nn.ModuleDict(by_name(modulators))

    def _take_tasks(self, state: Mapping[str, Any], prefix: str) -> None:
        for name, modulator in self.named_modulators().items():
            modulator._take_tasks(state, f"{prefix}modulators.{name}.")

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        # As a part of another module it can't know whether the load is strict: only a whole state brings its tasks.
        spots = [f"{prefix}modulators.{name}.{spot}." for name in self.modulators for spot in TASK_ROWS]
        if prefix and is_whole(self, state, prefix, spots):
            self._take_tasks(state, prefix)
        super()._load_from_state_dict(state, prefix, *args)

    def named_modulators(self) -> dict[str, Modulator]:
        """The modulators in order, by the name of their kind in lower case."""
        return dict(self.modulators.items())  # type: ignore[arg-type]

    def readers(self, what: str) -> dict[str, Modulator]:
        """The modulators, by name, whose source reads ``what``: "task", "condition", "input", "activation:NAME"."""
        return {name: m for name, m in self.named_modulators().items() if m.reads == what}

    @property
    def reads(self) -> frozenset[str]:
        """What the sources read: "task", "condition", "input", "activation:NAME"."""
        return frozenset(m.reads for m in self.named_modulators().values())

    def tasks(self) -> tuple[int, ...]:
        """The tasks that every modulator which reads the task knows."""
        known = [set(m.tasks()) for m in self.readers("task").values()]
        return tuple(sorted(set.intersection(*known))) if known else ()

    def add(self, task: int) -> list[nn.Parameter]:
        """Add a task to every modulator that lacks it; returns the new parameters, for ``optimizer.add_param_group``."""
        task = task_id(task)
        lacking = [m for m in self.readers("task").values() if task not in m.tasks()]
        if not lacking:
            raise RefusedError(
                f"a task is added once, to modulators that read it; got task {task}; pick an id that is free"
            )
        return [p for m in lacking for p in m.add(task)]

    def seal(self, task: int) -> None:
        """Move a task from live parameters to rest (masks one bit per weight), in every modulator that reads the task."""
        task, readers = task_id(task), self.readers("task").values()
        live = [m for m in readers if task in m.source.tasks()]
        if not live and not any(task in m.sealed.places for m in readers):
            known = list(self.tasks())[:8]
            raise RefusedError(
                f"a task must be known to be sealed; got task {task}; known are {known}; call add({task}) first"
            )
        for modulator in live:
            modulator.seal(task)

    def bytes_per_task(self, task: int) -> int:
        """Bytes that must be kept for a task alone: masks at one bit per weight, the rest in its dtype.

        A live task of a shared source needs its embedding only; the shared part is not counted.
        """
        task = task_id(task)
        with torch.no_grad():
            rows = [modulator.stored(task) for modulator in self.readers("task").values()]
        return sum(value.numel() * value.element_size() for row in rows for value in row.values())


def folded(rows: Mapping[str, Row], modulators: Modulators, skeleton: Skeleton) -> Edits:
    """The edits of one row of each modulator that has one, folded in their order: each sees what those before it wrote.

    Args:
        rows: by the name of the modulator.
        modulators: in order.
        skeleton: of the network that they edit.

    """
    own, ties = skeleton.tensors, skeleton.ties
    now = dict(own)
    edits: Edits = {}
    for name, modulator in modulators.items():
        if name in rows:
            # Each tensor keeps its dtype, whatever the modulation is computed in.
            new = {n: v.to(own[n].dtype) if n in own else v for n, v in modulator.edits(rows[name], now).items()}
            tied = {other: n for n in new for other in ties.get(n, ())}
            # What is for one place alone leaves what is tied to it as it stands.
            new |= {other: now[other] if modulator.kind.alone else new[n] for other, n in tied.items()}
            now |= new
            edits |= new
    return edits


def refuse_clashes(target: Target, modulators: Modulators) -> None:
    """Refuse two modulators of one tensor where the second ignores the first, or the first changes its shape.

    One that writes a tied tensor writes it in all its places.
    """
    writers: dict[str, str] = {}
    ties = ties_of(target.pristine)
    for name, modulator in modulators.items():
        written = modulator.writes()
        for tensor in sorted(
            written | {other for n in written for other in ties.get(n, ()) if not modulator.kind.alone}
        ):
            before = writers.get(tensor)
            if before is not None:
                first = modulators[before].kind
                if modulator.kind.replaces or first.per_task:
                    # A head of a width of its own leaves nothing of the target's shape to act on.
                    remedy = "" if first.per_task or first.replaces else "put the replacing one first, or "
                    raise RefusedError(
                        f"two modulators can share a tensor only where both act on what is there; {before!r} and "
                        f"{name!r} both write {tensor!r}; {remedy}exclude the site from one"
                    )
            writers[tensor] = name


def refuse_twins(modulators: Modulators) -> None:
    """Refuse two modulators of one kind and one seed that share a site: every draw of the second would be the first's."""
    names = list(modulators)
    for place, name in enumerate(names):
        for other in names[:place]:
            one, two = modulators[other], modulators[name]
            common = [site.name for site in one.sites if site in two.sites]
            if (one.name, one.seed) == (two.name, two.seed) and common:
                raise RefusedError(
                    f"two modulators of one kind at one site draw from seeds of their own; {other!r} and {name!r} both have "
                    f"seed={one.seed} at {common[0]!r}; pass seed={one.seed + 1} to the second"
                )


def gathers(target: Target, modulators: Modulators) -> dict[str, bool]:
    """Of each modulator by name, whether one call of the network can give each sample of a batch a row of its own.

    That needs samples that do not meet inside the network, kinds that act through taps at every site of the modulator
    (`Modulator.gathers`), and that no later modulator writes the weight or bias of such a layer: a tap acts on what the layer puts
    out, so a later change of the weight would come too early. Where it is False, a batch of several rows is split, one call for
    each.
    """
    found, later = {}, set[str]()
    for name, modulator in reversed(list(modulators.items())):
        weights = {t for s in modulator.sites if s.role == "weight" for t in (s.name, f"{s.module}.bias".lstrip("."))}
        found[name] = target.probe.meets is None and modulator.gathers and not weights & later
        later |= weights
    return {name: found[name] for name in modulators}


def refuse_cycles(target: Target, modulators: Modulators) -> None:
    """Refuse a source that reads an activation behind a site that it modulates."""
    place = {name: position for position, name in enumerate(target.probe.order)}
    for name, modulator in modulators.items():
        read = modulator.reads.removeprefix("activation:")
        if read == modulator.reads or read not in place:
            continue
        behind = [s.name for s in modulator.sites if s.module in place and place[s.module] <= place[read]]
        if behind:
            raise RefusedError(
                f"an activation is read in front of what it modulates; {name!r} reads {read!r}, which is called behind its site "
                f"{behind[0]!r} (a cycle); read an earlier module, or modulate later ones"
            )


def refuse_batch_norm(target: Target, modulators: Modulators) -> None:
    """Refuse ``norm="batch"`` without a place for each task's statistics, or with samples split one by one."""
    norms = [n for n, m in target.pristine.named_modules() if isinstance(m, _BatchNorm)]
    if target.norm != "batch" or not norms:
        return
    held = {s.module for m in modulators.values() if not m.kind.learned for s in m.sites}
    missing = [n for n in norms if n not in held]
    if missing:
        raise RefusedError(
            f"norm='batch' needs the statistics of each task; {missing[0]!r} has none; "
            "add Modulator(Statistics(), Table(tasks), target.statistics(), seed=0)"
        )
    place = {name: position for position, name in enumerate(target.probe.order)}
    first = min(place[n] for n in norms if n in place)
    for name, modulator in modulators.items():
        read = modulator.reads.removeprefix("activation:")
        if read != modulator.reads and place.get(read, -1) >= first:
            raise RefusedError(
                f"norm='batch' takes statistics over a task's samples; {name!r} reads {read!r} behind a norm, in one forward "
                "for all samples; read a module in front of the norms, or use norm='frozen'"
            )
    in_one_call = gathers(target, modulators)
    for name, modulator in modulators.items():
        if modulator.reads not in ("task", "nothing") and not in_one_call[name]:
            raise RefusedError(
                f"norm='batch' takes statistics over a task's samples; {name!r} would split them one by one "
                f"(it reads {modulator.reads!r} and writes weights); use norm='frozen'"
            )


def refuse_meeting(target: Target, modulators: Modulators) -> None:
    """Refuse rows per sample where samples meet inside the network: a batch of one sample has other statistics.

    A mixed batch of such a network is split by task, and equals the batches of its tasks.
    """
    for name, modulator in modulators.items():
        if target.probe.meets is not None and modulator.reads not in ("task", "nothing"):
            place = f"in {target.probe.meets!r}" if target.probe.meets else "on the way to its output"
            raise RefusedError(
                f"samples of this network meet {place} (statistics of the batch), so it is split by task alone; {name!r} reads "
                f"{modulator.reads!r}; normalise with running statistics, or read the task"
            )


def refuse_vmap(target: Target, vmap: bool) -> None:
    """Refuse ``vmap=True`` for networks that torch can't run so, or whose samples meet."""
    why = "samples of this one meet" if vmap and target.probe.meets is not None else target.unmapped if vmap else None
    if why is not None:
        raise RefusedError(f"vmap=True needs a network that runs sample by sample; {why}; drop vmap=True")


def head_width(modulators: Modulators) -> int | None:
    """Outputs of the target's own head, where tasks have heads of other widths; else None."""
    heads = [m for m in modulators.values() if m.kind.per_task]
    return heads[0].sites[0].shape[0] if heads else None


def check_shapes(skeleton: Skeleton, modulators: Modulators) -> None:
    """Run every modulator once on meta tensors; refuse names and shapes of what it writes that the network would not take."""
    now = {name: value.to("meta") for name, value in skeleton.tensors.items()}
    channels = {s.module: s.shape[0] for m in modulators.values() for s in m.sites if s.role == "output"}
    for modulator in modulators.values():
        shapes = {f"{s.label}/{p}": shape for s in modulator.sites for p, shape in modulator.kind.shapes(s).items()}
        dtype = next((v.dtype for v in now.values() if v.is_floating_point()), torch.float32)
        edits = modulator.edits({k: torch.empty(s, dtype=dtype, device="meta") for k, s in shapes.items()}, now)
        resized = tuple(edits) if modulator.kind.per_task else ()
        check(skeleton.net, edits, channels, resized)
        now |= {k: v for k, v in edits.items() if k not in resized}
