"""Configs: thin YAML composed by hydra; what is mistyped is answered with the nearest name, what is left out is filled in."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tasks.config.build import check_specs, experiment
from tasks.config.common import Common, Data, Select
from tasks.config.defaults import check_numbers, completed
from tasks.config.fields import finite, fit, fit_options, hints_of
from tasks.config.files import CONFIGS, folders_of, options
from tasks.config.overrides import PREFIXES, full, is_call, is_choice, placed, quoted, shorthand
from tasks.errors import UserError, nearest


def load(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of ``overrides`` (``experiment=NAME key=value ...``), defaults too.

    A key may leave out ``run.``, ``run.learner.`` and ``run.measures.``. ``run=package.module.Class`` is the user's own
    family, ``configs=FOLDER`` a folder of the user's own configs, ``target=package.module:function`` the user's own network,
    called as ``function(shape, outputs)``; ``data=folder:PATH`` or ``data=NAME`` names the images. UserError for a name that
    does not exist, with the nearest one.
    """
    given = [part for item in overrides for part in shorthand(item)]
    folders = folders_of(given)
    given = [item for item in given if not item.startswith("configs=")]
    name, family = _subject(given)
    given = [item for item in given if not (family and item == f"run={family}")]
    given = [placed(item, folders) for item in given]
    choices = [*(item for item in given if is_choice(item)), *(["~run"] if family else [])]
    try:
        base = completed(_compose(choices, folders), family)
        # What is called says which options there are, so it is settled before they are looked up.
        called = [f"++{full(item, base)}" for item in given if is_call(item)]
        if called:
            base = completed(_compose([*choices, *called], folders), family)
        values = [f"++{full(item, base)}" for item in given if item not in choices and not is_call(item)]
        composed = completed(_compose([*choices, *called, *values], folders), family)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_reason(str(error))) from error
    check_numbers(base, composed)
    refuse(composed)
    config = {key: value for key, value in composed.items() if key not in ("says", "paper")}
    return config | {"experiment": name, "title": composed["title"] or name}


def refuse(config: Mapping[str, Any]) -> None:
    """Refuse what the family, what it calls, or all families refuse, before any data is read."""
    finite(config)
    for key, hint in hints_of(Common).items():
        fit(config[key], hint, key)
    fit_options(Data, config["data"], "data")
    fit_options(Select, config["select"], "select")
    check_specs(config["run"], "run")
    experiment(config["run"])


def experiments(folders: Sequence[Path] = ()) -> list[str]:
    """The names of all experiments; a file without a title is a base that others build on."""
    return [name for name in options("experiment", folders) if description(name, folders).keys() & {"title", "sweep"}]


def description(name: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """What an experiment's own file says: ``title``, ``says``, ``paper``, and the rest, before anything is composed."""
    for folder in (*folders, CONFIGS):
        path = folder / "experiment" / f"{name}.yaml"
        if path.is_file():
            content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
            return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    raise UserError(f"an experiment must exist; got {name!r}; nearest: {nearest(name, options('experiment', folders))}")


def _subject(overrides: Sequence[str]) -> tuple[str, str | None]:
    """The experiment that is named, and the dotted path of the user's own family where ``run=`` names one."""
    chosen = [item.removeprefix("experiment=") for item in overrides if item.startswith("experiment=")]
    own = [item.removeprefix("run=") for item in overrides if item.startswith("run=") and "." in item]
    if (len(chosen) == 1 and len(own) <= 1) or (not chosen and len(own) == 1):
        return (chosen or own)[0], own[0] if own else None
    raise UserError(
        f"a command names one experiment; got {chosen}; pass experiment=NAME ({', '.join(experiments()[:4])}, ...)"
    )


def _compose(overrides: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    paths = ", ".join(quoted(f"file://{folder.resolve()}") for folder in folders)
    search = [f"hydra.searchpath=[{paths}]"] if folders else []
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", [*overrides, *search]), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def find(config: Mapping[str, Any], key: str) -> Any:
    """The value of an option, its key written as on a command line. KeyError where there is none."""
    # An option of a learner was once one of `baseline`, and choices that were made then say so.
    for name in dict.fromkeys((key, key.removeprefix("baseline."))):
        for prefix in PREFIXES:
            node: Any = config
            for part in f"{prefix}{name}".split("."):
                node = node.get(part, KeyError) if isinstance(node, Mapping) else KeyError
            if node is not KeyError:
                return node
    raise KeyError(key)


def _reason(text: str) -> str:
    """What hydra says, on one line; a choice without a place in words of ours."""
    if found := re.search(r"(?:In '([^']+)': )?Could not override '([^']+)'. No match", text):
        place, choice = found[1] or "an override", found[2]
        return f"{place} chooses {choice}, for which the run or the learner that was chosen has no place; choose others"
    return f"the config can't be composed: {text.splitlines()[0]}; correct the override"
