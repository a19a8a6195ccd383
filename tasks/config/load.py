"""Configs: thin YAML composed by hydra; what is mistyped is answered with the nearest name, what is left out is filled in."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tasks.config.build import TARGET, at_least, default_of, experiment, has_default, options_of, resolve, target_of
from tasks.errors import UserError, nearest

CONFIGS = Path(__file__).parents[2] / "configs"
# Where a key is looked up, in this order: `steps` is `run.steps`, `regulariser.beta` is `run.learner.regulariser.beta`.
PREFIXES = ("", "run.", "run.learner.", "run.measures.")
# A group of configs, and the place that its choice takes.
PLACES = {
    "run": "run",
    "stream": "run.stream",
    "target": "run.target",
    "learner": "run.learner",
    "modulator": "run.learner.modulators",
    "optimizer": "run.optimizer",
    "measures": "run.measures",
}
# Their options are those of the installed version, which the environment of a run records.
FOREIGN = ("torch.", "neuromod.")


def load(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of ``overrides`` (``experiment=NAME key=value ...``), defaults too.

    A key may leave out ``run.``, ``run.learner.`` and ``run.measures.``. ``run=package.module.Class`` is the user's own
    family, ``configs=FOLDER`` a folder of the user's own configs, ``target=package.module:function`` the user's own network,
    called as ``function(shape, outputs)``; ``data=folder:PATH`` or ``data=NAME`` names the images. UserError for a name that
    does not exist, with the nearest one.
    """
    given = [part for item in overrides for part in _shorthand(item)]
    folders = folders_of(given)
    given = [item for item in given if not item.startswith("configs=")]
    name, family = _subject(given)
    given = [item for item in given if not (family and item == f"run={family}")]
    given = [_placed(item, folders) for item in given]
    choices = [*(item for item in given if _group(item)), *(["~run"] if family else [])]
    try:
        base = _completed(_compose(choices, folders), family)
        # What is called says which options there are, so it is settled before they are looked up.
        called = [f"++{_full(item, base)}" for item in given if _named(item)]
        if called:
            base = _completed(_compose([*choices, *called], folders), family)
        values = [f"++{_full(item, base)}" for item in given if item not in choices and not _named(item)]
        composed = _completed(_compose([*choices, *called, *values], folders), family)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_reason(str(error))) from error
    _check_numbers(base, composed)
    at_least(1, **{key: composed[key] for key in ("threads", "log_every", "save_every")})
    experiment(composed["run"])  # refuses what the family refuses, before any data is read
    asked = {key: value for key, value in composed.items() if key not in ("says", "paper")}
    return asked | {"experiment": name, "title": composed["title"] or name}


def folders_of(overrides: Sequence[str]) -> list[Path]:
    """The folders of a user's own configs that overrides name, ``configs=FOLDER``. UserError for one that does not exist."""
    found = [Path(item.partition("=")[2]) for item in overrides if item.startswith("configs=")]
    if absent := [folder for folder in found if not folder.is_dir()]:
        raise UserError(
            f"configs must be a folder with experiment/NAME.yaml in it; {absent[0]} is none; correct the path"
        )
    return found


def experiments(folders: Sequence[Path] = ()) -> list[str]:
    """The names of all experiments; a file without a title is a base that others build on."""
    return [name for name in options("experiment", folders) if said(name, folders).keys() & {"title", "sweep"}]


def said(name: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """What an experiment's own file says: ``title``, ``says``, ``paper``, and the rest, before anything is composed."""
    for folder in (*folders, CONFIGS):
        path = folder / "experiment" / f"{name}.yaml"
        if path.is_file():
            content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
            return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    raise UserError(f"an experiment must exist; got {name!r}; nearest: {nearest(name, options('experiment', folders))}")


def options(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """The names that a config group knows."""
    roots = [folder / group for folder in (*folders, CONFIGS)]
    return sorted({str(p.relative_to(root).with_suffix("")) for root in roots for p in root.rglob("*.yaml")})


def _subject(given: Sequence[str]) -> tuple[str, str | None]:
    """The experiment that is named, and the dotted path of the user's own family where ``run=`` names one."""
    chosen = [item.removeprefix("experiment=") for item in given if item.startswith("experiment=")]
    own = [item.removeprefix("run=") for item in given if item.startswith("run=") and "." in item]
    if (len(chosen) == 1 and len(own) <= 1) or (not chosen and len(own) == 1):
        return (chosen or own)[0], own[0] if own else None
    raise UserError(
        f"a command names one experiment; got {chosen}; pass experiment=NAME ({', '.join(experiments()[:4])}, ...)"
    )


def _compose(overrides: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    paths = ", ".join(f"file://{folder.resolve()}" for folder in folders)
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
    if found := re.search(r"In '([^']+)': Could not override '([^']+)'. No match", text):
        place, choice = found.groups()
        return f"{place} chooses {choice}, for which the run or the learner that was chosen has no place; choose others"
    return f"the config can't be composed: {text.splitlines()[0]}; correct the override"


# ---- overrides ---------------------------------------------------------------------------------------------------------


def _shorthand(item: str) -> list[str]:
    key, equals, value = item.partition("=")
    if not equals:
        raise UserError(f"an override is key=value; got {item!r}; write {item}=VALUE")
    if key.startswith("~"):
        raise UserError(f"an option is set and not removed; got {item!r}; pass {key[1:]}=null")
    item = item.lstrip("+")
    key = key.lstrip("+")
    if key == "data":
        return ["data.name='" + value.replace("'", "\\'") + "'"]
    if key == "target" and ":" in value:
        return ["target=custom", f"target.constructor='{value}'"]
    return [item]


def _placed(item: str, folders: Sequence[Path]) -> str:
    """``stream=permuted`` as hydra writes it: ``stream@run.stream=permuted``."""
    key, _, value = item.partition("=")
    group, _, place = key.partition("@")
    if not _group(item):
        return item
    known = options(group, folders)
    if value not in known and value != "null":
        raise UserError(f"{group} must be a known name; got {value!r}; nearest: {nearest(value, known)}")
    wanted = PLACES.get(group, group)
    if place and place not in (wanted, wanted.removeprefix("run."), wanted.removeprefix("run.learner.")):
        raise UserError(f"{group} is chosen for {wanted}; got {key}; write {group}={value}")
    return f"{group}={value}" if wanted == group else f"{group}@{wanted}={value}"


def _group(item: str) -> bool:
    """Whether an override chooses a file: a group's name that takes the name of one, and not a value of its own."""
    key, _, value = item.partition("=")
    group = key.partition("@")[0]
    return (group in PLACES or group == "experiment") and not value.lstrip().startswith("{")


def _named(item: str) -> bool:
    """Whether an override says what is called."""
    return item.partition("=")[0].endswith(f".{TARGET}")


def _full(item: str, config: Mapping[str, Any]) -> str:
    """An override with its whole key. UserError for a key that no option has."""
    key, _, value = item.partition("=")
    for prefix in PREFIXES:
        if _takes(config, f"{prefix}{key}", value):
            return f"{prefix}{key}={value}"
    known = [*_dotted(config)]
    short = [name.removeprefix(p) for name in known for p in PREFIXES if name.startswith(p)]
    raise UserError(f"an option must exist; got {key!r}; nearest: {nearest(key, short)}")


def _takes(config: Mapping[str, Any], key: str, value: str) -> bool:
    """Whether there is a place for a key: an option that stands there, or one that what is called there takes."""
    *path, last = key.split(".")
    node: Any = config
    for place, part in enumerate(path):
        if isinstance(node, Mapping) and node.get(part) is None and part in node and place + 1 == len(path):
            return False
        if not isinstance(node, Mapping) or part not in node:
            return False
        parent, node = node, node[part]
        if part == "kwargs" and "constructor" in parent and place + 1 == len(path):
            return last in node or _constructor_takes(parent["constructor"], last)
    if not isinstance(node, Mapping):
        return False
    if last in node:
        return True
    if TARGET in node:
        known = options_of(target_of(node, ".".join(path)))
        return known is None or last in known
    # A mapping of named parts takes another part, whole: modulators.head={kind: ...}.
    return path[-1:] in (["modulators"], ["measures"], ["rates"]) and value.lstrip().startswith(("{", "["))


def _constructor_takes(constructor: str, name: str) -> bool:
    if name in ("shape", "outputs"):
        raise UserError(f"target.kwargs.{name} is given by the data; got it as an option too; leave it out")
    known = options_of(resolve(constructor, "target.constructor"))
    return known is None or name in known


# ---- what is left out ----------------------------------------------------------------------------------------------------


def _completed(config: Mapping[str, Any], family: str | None) -> dict[str, Any]:
    """The config with the defaults of its family's fields, and of the functions that they name."""
    run = dict(config.get("run") or {})
    if family is not None:
        run = {TARGET: family} | {key: value for key, value in run.items() if key != TARGET}
    return {**config, "run": _fields(target_of(run, "run"), run)}


def _fields(cls: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls):
        return dict(given)
    found = {TARGET: given[TARGET]} if TARGET in given else {}
    for field in (f for f in dataclasses.fields(cls) if f.init):
        if field.name not in given and not has_default(field):
            continue
        value = given[field.name] if field.name in given else default_of(field)
        hint = get_type_hints(cls)[field.name]
        if dataclasses.is_dataclass(hint):
            value = _fields(hint, dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value)  # type: ignore[arg-type]
        found[field.name] = _specs(value, f"run.{field.name}")
    return found | {key: value for key, value in given.items() if key not in found}


def _specs(value: Any, where: str) -> Any:
    """A value whose specs, one or several by name, have the defaults of what they call; those of others' code stay theirs."""
    if not isinstance(value, Mapping):
        return list(value) if isinstance(value, tuple) else value
    if TARGET not in value:
        return {
            key: _specs(v, f"{where}.{key}") if isinstance(v, Mapping) and TARGET in v else v
            for key, v in value.items()
        }
    if str(value[TARGET]).startswith(FOREIGN):
        return dict(value)
    known = options_of(target_of(value, where)) or {}
    plain = {
        n: p.default for n, p in known.items() if isinstance(p.default, NoneType | bool | int | float | str | tuple)
    }
    filled = {n: list(v) if isinstance(v, tuple) else v for n, v in plain.items()}
    return {TARGET: value[TARGET], **filled, **{k: v for k, v in value.items() if k != TARGET}}


# ---- values --------------------------------------------------------------------------------------------------------------


def _check_numbers(base: Mapping[str, Any], composed: Mapping[str, Any], prefix: str = "", owner: Any = None) -> None:
    """Where the configs have a number (or a yes or no), an override is one too, or null where its ``owner`` understands it."""
    for key, old in base.items():
        new = composed.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            _check_numbers(old, new, f"{prefix}{key}.", _owner(old, owner, key))
        for kind, name in ((bool, "true or false"), (int, "a whole number"), (float, "a number")):
            if isinstance(old, kind):
                fits = isinstance(new, int | float if kind is float else kind) and isinstance(new, bool) == (
                    kind is bool
                )
                if not (fits or (new is None and _optional(owner, f"{prefix}{key}"))):
                    raise UserError(f"{prefix}{key} must be {name}; got {new!r}; the default is {old!r}")
                break


def _owner(spec: Mapping[str, Any], parent: Any, key: str) -> Any:
    """What takes the options of a part of a config: what it calls, or the dataclass of a field; None: nothing says."""
    if TARGET in spec:
        return target_of(spec, key)
    hint = _hints(parent).get(key)
    return hint if dataclasses.is_dataclass(hint) else None


def _hints(owner: Any) -> dict[str, Any]:
    own = getattr(owner, "__init__", None) if isinstance(owner, type) and not dataclasses.is_dataclass(owner) else owner
    try:
        return {} if own is None else get_type_hints(own)
    except (NameError, TypeError):  # hints that only a type checker can read
        return {}


def _optional(owner: Any, path: str) -> bool:
    """Whether null is understood there: by the owner, or because it is the default of what all families share."""
    if owner is None:
        return OmegaConf.select(OmegaConf.load(CONFIGS / "train.yaml"), path, default=0) is None
    hint = _hints(owner).get(path.rpartition(".")[2])
    return hint is None or NoneType in get_args(hint)


def _dotted(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
