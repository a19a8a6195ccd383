"""From a resolved config to objects: the one place where names in YAML become modulators."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate

from neuromod import Head, Modulated, Modulator, OutputRegulariser, RefusedError, Site, Table, Target
from neuromod.seeds import derive
from tasks.errors import UserError

SELECTORS = ("weights", "outputs", "norms", "statistics", "head")


def sites(target: Target, chosen: Mapping[str, Any]) -> tuple[Site, ...]:
    """Sites from ``{weights: "*", exclude: ...}``: a selector of `Target`, its patterns, and its options.

    A pattern ``type:torch.nn.ReLU`` is a module type.
    """
    options = dict(chosen)
    names = [key for key in options if key in SELECTORS]
    if len(names) != 1:
        raise ValueError(f"sites need exactly one of {', '.join(SELECTORS)}; got {sorted(options)}; keep one")
    patterns = options.pop(names[0])
    listed = [patterns] if isinstance(patterns, str) else list(patterns or ())
    if "exclude" in options:
        options["exclude"] = _patterns(options["exclude"])
    selector = getattr(target, names[0])
    return tuple(selector(*_patterns(listed), **options))


def _patterns(listed: Any) -> list[Any]:
    found = [listed] if isinstance(listed, str) else list(listed)
    return [get_class(p.removeprefix("type:")) if p.startswith("type:") else p for p in found]


def _made(config: Mapping[str, Any]) -> Any:
    try:
        return instantiate(config)
    except InstantiationException as error:
        # What the kind or the source itself refuses is said in its own line; hydra wraps it in two of its own.
        if isinstance(error.__cause__, RefusedError):
            raise error.__cause__ from None
        raise UserError(
            f"{config['_target_']} can't be made of its options; {error.__cause__}; correct them"
        ) from error


def modulator(target: Target, config: Mapping[str, Any], *, tasks: int, seed: int) -> Modulator:
    """One modulator from ``{kind, source, sites, identity}``; a source's ``tasks`` and ``labels`` are that many, or null."""
    source = dict(config["source"])
    source |= {key: tasks for key in ("tasks", "labels") if source.get(key) is not None}
    return Modulator(
        _made(config["kind"]),
        _made(source),
        sites(target, config["sites"]),
        seed=seed,
        identity=config.get("identity", False),
    )


def modulated(
    target: Target,
    config: Mapping[str, Any],
    *,
    tasks: int,
    seed: int,
    vmap: bool = False,
    widths: Sequence[int] = (),
) -> Modulated:
    """A modulated network from named modulators, in their order.

    With ``widths``, the outputs of each task, a `Head` from a `Table` that says no width has as many outputs as its task.
    """
    parts = [modulator(target, c, tasks=tasks, seed=derive(seed, "modulator", name)) for name, c in config.items()]
    model = Modulated(target, *parts, vmap=vmap)
    for part in (p for p in parts if _sized(p)):
        for task, width in enumerate(widths):
            part.source.forget(task)
            part.add(task, width=width)
    return model


def add(model: Modulated, task: int, width: int) -> None:
    """Add a task of so many outputs to a model that was built without it."""
    for part in model.named_modulators().values():
        if part.reads == "task":
            part.add(task, **({"width": width} if _sized(part) else {}))


def _sized(part: Modulator) -> bool:
    """Whether a task's width is that of its data: a `Head` from a `Table` that says none."""
    table = isinstance(part.source, Table) and part.reads == "task"
    return table and isinstance(part.kind, Head) and part.kind.width is None


def regulariser(model: Modulated, config: Mapping[str, Any], *, seed: int) -> OutputRegulariser | None:
    """The regulariser of a whole config; None where its ``beta`` is 0."""
    options = config["regulariser"]
    if not options["beta"]:
        return None
    if config["order"] != "sequence":
        rule = "a regulariser holds tasks that are learned one after the other"
        raise UserError(f"{rule}; got order={config['order']}; pass order=sequence or regulariser.beta=0")
    return OutputRegulariser(model, **options, seed=derive(seed, "regulariser"))
