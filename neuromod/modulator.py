"""`Modulator`: a kind times a source at chosen sites."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.arguments import count, flag, floating, instance, task_id, task_ids
from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now
from neuromod.modes import evaluating
from neuromod.seeds import generator
from neuromod.sources.base import Row, Rows, Source, Starts, task_rows
from neuromod.sources.context import Context
from neuromod.sources.loading import Loading, settle
from neuromod.sources.sealed import Sealed
from neuromod.target.sites import Site, refuse_sites
from neuromod.target.target import Target


class Modulator(Loading):
    """A kind times a source at chosen sites.

    Args:
        kind: what raw numbers mean.
        source: where raw numbers come from.
        sites: where they act (`Target.weights`, `outputs`, `norms`, `statistics`, `head`).
        seed: of every draw of this modulator; each has a generator of its own, keyed by kind, site and task. Two modulators
            of one kind at the same sites need different seeds.
        identity: start exactly at the target instead of where the kind's paper starts.
        dtype: of its numbers; by default that of the target's weights. Numbers of float32 train a target of bfloat16 or float16
            as adapters are trained: what they make is cast to the dtype of the tensor it stands for.

    """

    target: Target | None
    like: Tensor

    def __init__(
        self,
        kind: Kind,
        source: Source,
        sites: Sequence[Site],
        *,
        seed: int = 0,
        identity: bool = False,
        dtype: torch.dtype | str | None = None,
    ) -> None:
        super().__init__()
        self.kind: Kind = instance(kind, Kind, "the kind of a modulator, its first argument,")
        self.source: Source = instance(source, Source, "the source of a modulator, its second argument,")
        refuse_sites(sites)
        self.sites = tuple(dict.fromkeys(sites))
        self.seed, self.identity = count(seed, "seed"), flag(identity, "identity")
        self.dtype = None if dtype is None else floating(dtype)
        self.sealed = Sealed()
        self.constants = nn.Module()
        self.__dict__["target"] = None
        self._measured: set[int] = set()
        if not self.sites:
            raise RefusedError("a modulator acts on at least one site; got none; choose with target.weights('*')")
        wrong = next((s for s in self.sites if s.role not in kind.roles), None)
        if wrong is not None:
            raise RefusedError(
                f"{self.name} acts on {' or '.join(kind.roles)} sites; got {wrong.role} {wrong.name!r}; choose others"
            )

    @property
    def name(self) -> str:
        """The kind's name."""
        return type(self.kind).__name__

    @property
    def reads(self) -> str:
        """What the source reads."""
        return self.source.reads

    @property
    def gathers(self) -> bool:
        """Whether one call can give each sample a row of its own at every site."""
        blended = self.source.blends
        return all(self.kind.gathers(site) and not (blended and site.role == "weight") for site in self.sites)

    @property
    def noisy(self) -> bool:
        """Whether the kind draws noise in training."""
        return any(self.kind.noise(site) for site in self.sites)

    def bind(self, target: Target, example: Context) -> None:
        """Take on the target's shapes and start; once."""
        if self.target is not None:
            if self.target.fingerprint() != target.fingerprint():
                bound = self.target.fingerprint()[:12]
                raise RefusedError(
                    f"a modulator belongs to one target; {self.name} is bound to {bound}; make a new one"
                )
            return
        self.__dict__["target"] = target
        like = target.like()
        self.register_buffer("like", like if self.dtype is None else like.to(self.dtype), persistent=False)
        for site in self.sites:
            for part, value in self.kind.constants(site).items():
                like_it = self.like if value.is_floating_point() else self.like.device
                self.constants.register_buffer(f"{site.label}/{part}", value.to(like_it), persistent=False)
        with torch.no_grad():
            self.source.bind(self._starts(example))

    def _starts(self, example: Context | None = None) -> Starts:
        shapes = {f"{s.label}/{part}": shape for s in self.sites for part, shape in self.kind.shapes(s).items()}
        scales = {f"{s.label}/{part}": self.kind.scale(s) for s in self.sites for part in self.kind.shapes(s)}

        def stream(*names: object) -> torch.Generator:
            return generator(self.seed, "source", self.name, *names)

        own, learned, like = self.identity, self.kind.learned, self.like
        resized = bool(self.kind.per_task)
        return Starts(shapes, scales, self.start, own, learned, like.dtype, like.device, stream, example, resized)

    def add(self, task: int, **options: int) -> list[nn.Parameter]:
        """Learn of a new task; returns its new parameters (for ``optimizer.add_param_group``).

        ``options`` are fields of the kind that may differ between tasks (`Kind.per_task`): ``width=5`` for a `Head`. Refused: others, a
        task that is sealed, and one that is known.
        """
        unknown = [o for o in options if o not in self.kind.per_task]
        if unknown:
            allowed = ", ".join(self.kind.per_task) or "no options"
            raise RefusedError(
                f"{self.name}.add takes {allowed} beside the task; got {unknown[0]!r}; set it on the kind"
            )
        task = task_id(task)
        if task in self.sealed.places:
            raise RefusedError(f"a task is added once; task {task} is sealed; pick an id that is free")
        if self.target is None:
            raise RefusedError(
                f"{self.name} learns of tasks once it is on a target; pass it to Modulated(target, ...) first"
            )
        with torch.no_grad():
            return self.source.add(task, self._starts(), options)

    def tasks(self) -> tuple[int, ...]:
        """Live and sealed tasks."""
        return tuple(sorted({*self.source.tasks(), *self.sealed.places})) if self.reads == "task" else ()

    @torch.no_grad()
    def seal(self, task: int) -> None:
        """Move a task from live parameters to rest: masks at one bit per weight, the rest in its dtype."""
        task = task_id(task)
        if task in self.sealed.places or self.reads != "task":
            why = f"task {task} is sealed already" if self.reads == "task" else f"{self.name} reads {self.reads!r}"
            raise RefusedError(f"a live task is sealed, once, where the task is read; {why}; drop seal()")
        self.sealed.seal(task, self.frozen(self._row(task)))
        self.source.forget(task)

    def stored(self, task: int) -> Row:
        """What must be kept for a task alone: its row at rest; of a live task of a shared source, its embedding."""
        task = task_id(task)
        if task in self.sealed.places:
            return self.sealed.row(task)
        task_rows(dict.fromkeys(self.source.tasks()), Context((), 0, tasks=(task,)))
        own = self.source.own(task)
        # The embedding of a shared source: "code" is its name in saved states.
        return own if "code" in own else self.frozen(own)

    def frozen(self, row: Row) -> Row:
        """A row at rest."""
        raws = by_site(row)
        return {f"{s.label}/{p}": v for s in self.sites for p, v in self.kind.freeze(s, raws[s.label]).items()}

    def forward(self, context: Context) -> Rows:
        """The rows of a call: live ones from the source, sealed ones from rest."""
        if self.reads != "task" or not self.sealed.places:
            return self.source(context)  # type: ignore[no-any-return]
        if context.tasks is None:
            if self.source.tasks():
                raise RefusedError("one graph serves sealed tasks or live ones; got both; seal the rest")
            return self.sealed(context)  # type: ignore[no-any-return]
        sealed = [t in self.sealed.places for t in context.tasks]
        if all(sealed):
            return self.sealed(context)  # type: ignore[no-any-return]
        rows = [
            (self.sealed if s else self.source)(context.only(t)).one()
            for t, s in zip(context.tasks, sealed, strict=True)
        ]
        return Rows(tuple(rows), context.index)

    def edits(self, row: Mapping[str, Tensor], now: Now) -> Edits:
        """The tensors that a row puts in the place of the target's; ``now`` holds what stands there."""
        raws = self.raws(row)
        edits: Edits = {}
        for site in self.sites:
            edits |= self.kind.edits(site, raws[site.label], now)
        return edits

    def raws(self, row: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """A row as {site label: {part: numbers}}, the constants of the kind among them: what its `edits` and `blend` take."""
        raws = by_site(row)
        for key, value in self.constants.named_buffers():
            label, _, part = key.rpartition("/")
            raws[label][part] = value.to(next(iter(raws[label].values())).device)
        return raws

    def noise(self, rows: Rows, context: Context, draw: int) -> Rows:
        """The same rows with uniform noise beside them, keyed by (seed, draw, what the row is of, site).

        Args:
            rows: of a call.
            context: of that call, which says what each row is of.
            draw: number of the draw; the same number gives the same noise.

        """
        if not isinstance(rows.values, tuple) and not any(key.endswith("/score") for key in rows.values):
            return rows
        names = self.source.names(context)
        noisy = []
        for position, name in enumerate(names if len(names) == len(rows) else range(len(rows))):
            row = dict(rows.row(position))
            for site in self.sites:
                like = row.get(f"{site.label}/score")
                if like is None:
                    continue
                for part, shape in self.kind.noise(site).items():
                    rng = generator(self.seed, "noise", draw, name, site.name, device=like.device)
                    row[f"{site.label}/{part}"] = torch.rand(shape, generator=rng, device=like.device, dtype=like.dtype)
            noisy.append(row)
        return Rows(tuple(noisy), rows.index)

    def start(self, task: object, **options: int) -> Row:
        """The row that a task starts at, drawn anew and always the same; ``"offset"`` names that of a shared source."""
        assert self.target is not None
        kind = replace(self.kind, **options) if options else self.kind
        now = self.target.tensors()
        row: Row = {}
        for site in self.sites:
            if self.identity:
                raw = kind.identity(site, now)
                if raw is None:
                    raise RefusedError(f"{self.name} has no identity at {site.name!r}; start it without identity=True")
            else:
                raw = kind.start(site, now, generator(self.seed, "start", self.name, task, site.name))
            row |= {f"{site.label}/{part}": value.to(self.like) for part, value in raw.items()}
        return row

    def measured(self, task: int) -> bool:
        """Whether the numbers of a task are there: always, unless they are measured and have not been yet."""
        if self.kind.learned:
            return True
        if task not in self._measured:
            row = self(Context((), 0, tasks=(task,))).one()
            if any(bool(torch.isnan(value).any()) for value in row.values()):
                return False
            self._measured.add(task)
        return True

    @torch.no_grad()
    def measure(self, task: int, values: Mapping[str, Tensor]) -> None:
        """Write measured numbers, by site name."""
        row = self._row(task)
        for site in self.sites:
            row[f"{site.label}/value"].copy_(values[site.name])

    def _take_tasks(self, state: Mapping[str, Any], prefix: str, *, whole: bool = True) -> None:
        if self.target is not None and any(name.startswith(f"{prefix}sealed.") for name in state):
            row = {f"{s.label}/{p}": v for s in self.sites for p, v in self.kind.at_rest(s).items()}
            self.sealed.expect(row, self.like, resized=bool(self.kind.per_task))
        settle(self.source, self.sealed, state, prefix, whole=whole)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        self._measured.clear()
        self._take_tasks(state, prefix, whole=False)
        super()._load_from_state_dict(state, prefix, *args)

    @torch.no_grad()
    def blended(self, *tasks: int) -> Row:
        """Sealed tasks (all, if none is named) as rows (tasks, ...) that may be averaged: the experts of a `Mixture`."""
        chosen = task_ids(tasks) or tuple(self.sealed.places)
        strange = [t for t in chosen if t not in self.sealed.places]
        if strange or not chosen:
            asked = f"task {strange[0]} is not" if strange else "none is"
            raise RefusedError(f"a mixture takes sealed tasks; {asked}; call seal(task) first")
        assert self.target is not None
        now = self.target.tensors()
        rows = [self.raws(self.sealed.row(task)) for task in chosen]
        blends = [{s: self.kind.blend(s, row[s.label], now) for s in self.sites} for row in rows]
        return {
            f"{site.label}/{part}": torch.stack([blend[site][part] for blend in blends])
            for site in self.sites
            for part in blends[0][site]
        }

    def writes(self) -> set[str]:
        """Names of the tensors that this modulator writes."""
        return {name for site in self.sites for name in self.kind.writes(site)}

    def _row(self, task: int) -> Row:
        """The row of a live task, whatever the mode (a body may drop out in training)."""
        with evaluating(self.source):
            return self.source(Context((), 0, tasks=(task,))).one()  # type: ignore[no-any-return]


def by_site(row: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A row's raw numbers as {site label: {part: tensor}}."""
    raws: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in row.items():
        label, _, part = key.rpartition("/")
        raws[label][part] = value
    return raws
