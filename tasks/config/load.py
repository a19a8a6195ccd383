"""Configs: thin YAML composed by hydra, with typing mistakes answered by the nearest name."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tasks.errors import UserError, nearest

CONFIGS = Path(__file__).parents[2] / "configs"


def load(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of ``overrides`` (``experiment=NAME key=value ...``), defaults too.

    ``target=package.module:function`` is the user's own network, called as ``function(shape, outputs)``;
    ``data=folder:PATH`` or ``data=NAME`` names the images. A name that does not exist is a `UserError` that names the
    nearest one.
    """
    given = [part for item in overrides for part in _shorthand(item)]
    chosen = [item.removeprefix("experiment=") for item in given if item.startswith("experiment=")]
    if len(chosen) != 1:
        raise UserError(
            f"a command names one experiment; got {chosen}; pass experiment=NAME ({', '.join(experiments()[:4])}, ...)"
        )
    _check_options([item for item in given if "=" in item])
    try:
        # Options are those of the chosen files: `optimizer=sgd optimizer.momentum=0.5` asks SGD and not the default.
        base = _compose([item for item in given if (CONFIGS / _group(item)).is_dir()])
        _check_keys(base, given)
        composed = _compose(given)
        _check_numbers(base, composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"the config can't be composed: {str(error).splitlines()[0]}; correct the override") from error
    return {"experiment": chosen[0], **composed}


def experiments() -> list[str]:
    """The names of all experiments."""
    return options("experiment")


def options(group: str) -> list[str]:
    """The names that a config group knows."""
    folder = CONFIGS / group
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _shorthand(item: str) -> list[str]:
    key, equals, value = item.partition("=")
    if not equals:
        raise UserError(f"an override is key=value; got {item!r}; write {item}=VALUE")
    if key == "data":
        return [f"data.name='{value}'"]
    if key == "target" and ":" in value:
        return ["target=custom", f"target.constructor='{value}'"]
    return [item]


def _group(item: str) -> str:
    return item.partition("=")[0].partition("@")[0].lstrip("+~")


def _check_options(items: Iterable[str]) -> None:
    for item in items:
        value, group = item.partition("=")[2], _group(item)
        known = options(group) if (CONFIGS / group).is_dir() else []
        if known and value not in known:
            raise UserError(f"{group} must be a known name; got {value!r}; nearest: {nearest(value, known)}")


def _check_keys(config: Mapping[str, Any], items: Sequence[str]) -> None:
    known = set(_dotted(config))
    for item in items:
        key = item.partition("=")[0]
        if (CONFIGS / _group(item)).is_dir() or key.startswith(("+", "~")) or key in known:
            continue
        raise UserError(f"an option must exist; got {key!r}; nearest: {nearest(key, known)}")


def _check_numbers(base: Mapping[str, Any], composed: Mapping[str, Any], prefix: str = "") -> None:
    """Where the configs have a number (or a yes or no), an override is one too."""
    for key, old in base.items():
        new = composed.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            _check_numbers(old, new, f"{prefix}{key}.")
        for kind, name in ((bool, "true or false"), (int, "a whole number"), (float, "a number")):
            if isinstance(old, kind) and new is not None:
                fits = isinstance(new, int | float if kind is float else kind) and isinstance(new, bool) == (
                    kind is bool
                )
                if not fits:
                    raise UserError(f"{prefix}{key} must be {name}; got {new!r}; the default is {old!r}")
                break


def _dotted(config: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
