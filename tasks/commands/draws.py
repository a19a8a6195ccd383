"""What can be drawn: the drawings of the families and measures that ``configs/`` or a command names, never a run folder."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf

from tasks.config.build import TARGET, resolve
from tasks.config.files import CONFIGS
from tasks.report.sections import Draw


def draws(config: Mapping[str, Any] | None = None, folders: Sequence[Path] = ()) -> list[Draw]:
    """The drawings of every family and measure of ``configs/`` and of the user's folders, and of one config beside them."""
    found: dict[str, Draw] = {}
    for path in [*_named(folders), *(_targets(config["run"]) if config is not None else ())]:
        draw = beside(path, "draw")
        if draw is not None:
            found[f"{draw.__module__}.{draw.__qualname__}"] = draw
    return list(found.values())


def beside(path: str, name: str) -> Callable[..., Any] | None:
    """The function of this name of a family or a measure; None where it has none.

    Args:
        path: dotted, of the family or the measure.
        name: of what it may offer beside what it does: ``draw``, ``summary``.

    """
    thing = resolve(path, TARGET)
    found: Callable[..., Any] | None = getattr(thing, name, None)
    if found is None and not isinstance(thing, ModuleType | type):
        # A measure that is named by its function has it in the file it stands in.
        found = getattr(sys.modules.get(getattr(thing, "__module__", "")), name, None)
    return found


def _named(folders: Sequence[Path]) -> Iterator[str]:
    for folder in (CONFIGS, *folders):
        for group in ("run", "measures"):
            for file in sorted((folder / group).rglob("*.yaml")):
                yield from _targets(OmegaConf.to_container(OmegaConf.load(file)))


def _targets(node: Any) -> Iterator[str]:
    """The family that stands in a config's ``run``, and its measures; of a file of measures, these."""
    if not isinstance(node, Mapping):
        return
    if TARGET in node:
        yield node[TARGET]
    parts = node.get("measures") if TARGET in node else node
    for part in (parts or {}).values():
        if isinstance(part, Mapping) and TARGET in part:
            yield part[TARGET]
