"""``config.json``: what a store says of the target and of the modulators, so that both can be built again."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuromod.arguments import count, instance, one_of, shown
from neuromod.bank.classes import Classes
from neuromod.bank.coding import CODINGS
from neuromod.bank.schema import Record
from neuromod.errors import RefusedError, refusing
from neuromod.modulated import Modulated
from neuromod.sources.base import Row
from neuromod.target.recipe import Recipe
from neuromod.target.sites import Site
from neuromod.target.target import Target

FORMAT = 1
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int32, torch.int64)
}


LONGEST = 1 << 21
"""Bytes of a config: that of a network of ten thousand sites is shorter."""


def most(size: int) -> int:
    """Bytes of memory that a file of ``size`` bytes may ask for: 10 times as many, or 64 MB where that is more."""
    return max(10 * size, 64 << 20)


@dataclass(frozen=True)
class TargetRecord:
    """The frozen network in a store: which one it is, and for a random one how to draw it again.

    Args:
        fingerprint: SHA-256 of its tensors, in hexadecimal.
        norm: as of the `Target`.
        batch_axis: as of the `Target`.
        dropout: as of the `Target`.
        example: shape and dtype of each input that the network was probed with.
        recipe: the fields of its `Recipe`, the constructor by its path; None for a network that is not random.

    """

    fingerprint: str
    norm: Literal["frozen", "batch"]
    batch_axis: int | list[int | None]
    dropout: bool
    example: list[list[Any]]
    """Shape and dtype of each input that the network was probed with."""
    recipe: dict[str, Any] | None

    def __post_init__(self) -> None:
        """ValueError for what no store says, for `Config.loads`."""
        recipe = {} if self.recipe is None else self.recipe
        if not isinstance(self.fingerprint, str) or not isinstance(recipe, dict):
            raise ValueError("a target has a fingerprint, and a recipe or none")
        if self.recipe is not None and not isinstance(recipe.get("constructor"), str):
            raise ValueError("a recipe names its constructor")

    @classmethod
    def of(cls, target: Target) -> "TargetRecord":
        """The record of a target."""
        example = [[list(x.shape), str(x.dtype).removeprefix("torch.")] for x in target.example]
        recipe = target.recipe
        kept = None if recipe is None else recipe.__dict__ | {"constructor": _path(recipe.constructor)}
        return cls(target.fingerprint(), target.norm, _axes(target), target.dropout, example, kept)

    def build(
        self,
        constructor: Callable[..., nn.Module] | None,
        example: Tensor | tuple[Tensor, ...] | None,
        sites: Iterable[Site] = (),
    ) -> Target:
        """The random network again; the constructor is the user's, for a file must not say what is run.

        Args:
            constructor: makes the network from the recorded keywords.
            example: inputs of it; None: zeros of the recorded shapes.
            sites: places that it has.

        """
        if self.recipe is None:
            raise RefusedError(
                f"a network that is not random can't be drawn again; this store is of target {self.fingerprint[:12]}; "
                "pass target=Target(net, example)"
            )
        path = self.recipe["constructor"]
        if not callable(constructor):
            raise RefusedError(
                f"a random target is drawn by your own constructor; the store names {path!r}; pass constructor= (the function)"
            )
        recipe = self._recipe(constructor)
        _refuse_giant(recipe, sites)
        inputs = self._zeros() if example is None else example
        for x in inputs if isinstance(inputs, tuple | list) else (inputs,):
            instance(x, Tensor, "an input of example=")
        options = {"norm": self.norm, "batch_axis": self.batch_axis, "dropout": self.dropout}
        rule = "a recorded network runs on its recorded inputs; this one does not"
        with refusing(rule, "restore the store, or pass example="):
            target = Target.from_recipe(recipe, inputs, **options)
        # The name stays the one that was saved, whatever the function is called here.
        target.recipe = replace(recipe, constructor=path)
        return target

    def _recipe(self, constructor: Callable[..., nn.Module]) -> Recipe:
        with refusing("a store says how its network is drawn; this one does not", "restore it"):
            return Recipe(**{**(self.recipe or {}), "constructor": constructor})

    def _zeros(self) -> tuple[Tensor, ...]:
        """Inputs of the recorded shapes. Refused: some that are too large to be made because a file says so."""
        if not isinstance(self.example, list) or not all(isinstance(x, list) and len(x) == 2 for x in self.example):
            raise RefusedError(
                f"an example of a store is shapes and dtypes; this one is {shown(self.example)}; restore it"
            )
        shapes = [tuple(count(n, "an axis of an example") for n in list(shape)) for shape, _ in self.example]
        dtypes = [DTYPES[one_of(dtype, "the dtype of an example", DTYPES)] for _, dtype in self.example]
        total = sum(math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True))
        if total > most(0):
            raise RefusedError(
                f"an example of a store is of {most(0)} bytes at most; this one is of {total}; pass example=, inputs of the network"
            )
        return tuple(torch.zeros(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True))

    def check(self, target: Target) -> None:
        """Refuse another target, or one that runs otherwise."""
        if target.fingerprint() != self.fingerprint:
            refuse_target(self.fingerprint, target.fingerprint())
        now = {"norm": target.norm, "batch_axis": _axes(target), "dropout": target.dropout}
        for name, theirs in now.items():
            ours = getattr(self, name)
            if ours != theirs:
                raise RefusedError(
                    f"a target runs as it was saved, with {name}={ours!r}; got {theirs!r}; pass it to Target"
                )


@dataclass(frozen=True)
class Config:
    """The content of ``config.json``.

    Args:
        coding: how masks are written, one of `coding.CODINGS`.
        target: the frozen network.
        modulators: in order.
        shared: SHA-256 of what serves all tasks, in hexadecimal; None where there is nothing.

    """

    coding: str
    target: TargetRecord
    modulators: tuple[Record, ...]
    shared: str | None

    def dumps(self) -> str:
        """Strict JSON with a SHA-256 of itself, so that a damaged file is told from another one."""
        records = [record.data() for record in self.modulators]
        data = {"coding": self.coding, "target": asdict(self.target), "modulators": records, "shared": self.shared}
        try:
            same = json.loads(_canonical(data))
            return json.dumps({"format": FORMAT, "sha256": _digest(same), **same}, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise RefusedError(
                f"a store says how to build its target and kinds in JSON; this it can't say: {error}; "
                "use numbers, strings and lists, or make the Target without recipe="
            ) from error

    @classmethod
    def loads(cls, text: bytes, where: str, classes: Classes) -> "Config":
        """The config of `dumps`; refuses what is not one, is of a newer format, was damaged, or names unknown classes.

        Args:
            text: the file, UTF-8.
            where: its name, for the refusal.
            classes: what the file may name.

        """
        if len(text) > LONGEST:
            raise RefusedError(f"a config.json has {LONGEST} bytes at most; {where} has {len(text)}; restore it")
        rule = f"a store has a config.json as it was written; {where} is damaged or of another program"
        with refusing(rule, "restore it"):
            data = json.loads(text)
            number = data.pop("format")
            if number != FORMAT:
                raise RefusedError(
                    f"this neuromod reads stores of format {FORMAT}; {where} is {number!r}; install a newer one"
                )
            if data.pop("sha256") != _digest(data):
                raise ValueError("its SHA-256 is another one")
            target, modulators = TargetRecord(**data.pop("target")), data.pop("modulators")
            if not modulators or not isinstance(modulators, list) or data["coding"] not in CODINGS:
                raise ValueError("it lists its modulators, one at least, and the coding of masks")
            return cls(target=target, modulators=tuple(Record.parse(m, classes) for m in modulators), **data)

    def build(self, target: Target, shared: Mapping[str, Tensor]) -> Modulated:
        """The modulated network without tasks."""
        with refusing("a store says how its modulators are built; this one does not", "save it again"):
            self._refuse_giants(target, shared)
            parts = [record.build(target, _of(record.name, shared)) for record in self.modulators]
            model = Modulated(target, *parts)
            for name, modulator in model.named_modulators().items():
                if modulator.reads != "task":
                    modulator.source.load_state_dict(_of(name, shared))
            return model

    def _refuse_giants(self, target: Target, shared: Mapping[str, Tensor]) -> None:
        # A hypernetwork may well be larger than its target, but not by what a file says alone.
        given = sum(t.numel() * t.element_size() for t in (*target.tensors().values(), *shared.values()))
        asked = 4 * sum(record.numbers() for record in self.modulators)
        if asked > max(most(0), 256 * given):
            raise RefusedError(
                f"a store's modulators are not out of all proportion; these want {asked} bytes for a target of {given}; "
                "config.json is odd"
            )


def _refuse_giant(recipe: Recipe, sites: Iterable[Site]) -> None:
    """Refuse keywords that make a large network which is not that of the store's sites, before it takes any memory."""
    rule = f"a recipe's keywords are those of its constructor; {shown(recipe.kwargs)} it refuses"
    with refusing(rule, "restore the store"), torch.device("meta"):
        net = replace(recipe, init="pytorch", density=None).draw()
    known = dict(net.named_parameters(remove_duplicate=False)) | dict(net.named_buffers(remove_duplicate=False))
    size = sum(t.numel() * t.element_size() for t in known.values())
    shapes = {name: tuple(value.shape) for name, value in known.items()}
    odd = next((s for s in sites if s.role != "output" and shapes.get(s.name) != s.shape), None)
    if size > most(0) and odd is not None:
        raise RefusedError(
            f"a recipe draws the network of its store; its keywords make one of {size} bytes, which has no {odd.name!r} of "
            f"{odd.shape}; restore the store"
        )


def _axes(target: Target) -> int | list[int | None]:
    """The batch axis of every input: one number where all have the same, as stores have always said it."""
    return target.batch_axis if len(set(target.axes)) == 1 else list(target.axes)


def refuse_target(theirs: str, ours: str) -> None:
    """Say that a store belongs to another network."""
    raise RefusedError(
        f"tasks load only on the target they were made for; theirs is {theirs[:12]}, this is {ours[:12]}; pass the same network"
    )


def _of(name: str, shared: Mapping[str, Tensor]) -> Row:
    return {key.removeprefix(f"{name}/"): value for key, value in shared.items() if key.startswith(f"{name}/")}


def _path(constructor: str | Callable[..., nn.Module]) -> str:
    return constructor if isinstance(constructor, str) else f"{constructor.__module__}:{constructor.__qualname__}"


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(data: Any) -> str:
    return hashlib.sha256(_canonical(data).encode()).hexdigest()
