"""What can be drawn: the drawings of the families and measures that ``configs/`` or a command names, never a run folder."""

import sys
from collections.abc import Iterator, Mapping, Sequence
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
        thing = resolve(path, TARGET)
        draw = getattr(thing, "draw", None)
        if draw is None and not isinstance(thing, ModuleType | type):
            # A measure that is named by its function is drawn by the file it stands in.
            draw = getattr(sys.modules.get(getattr(thing, "__module__", "")), "draw", None)
        if draw is not None:
            found[f"{draw.__module__}.{draw.__qualname__}"] = draw
    return list(found.values())


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
