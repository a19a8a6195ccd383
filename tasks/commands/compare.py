"""``compare``: every method of transfer on a network and images of the user's: a table, a picture, and the winner to keep."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from neuromod import RefusedError, save_pretrained
from tasks.commands.draws import draws
from tasks.commands.select import select
from tasks.config.build import device_of, experiment
from tasks.config.load import experiments, load
from tasks.config.overrides import quoted
from tasks.errors import UserError, nearest
from tasks.experiment import Bench, Costs, execute
from tasks.ledger.selection import file as selection_file
from tasks.report import write
from tasks.report.figures import scatter
from tasks.report.interval import interval
from tasks.report.svg import document, styles
from tasks.runs.files import read_json, write_atomic, write_json
from tasks.runs.run import Run
from tasks.runs.seeds import seeds

FAMILY = "methods/"
ROUNDS = 4  # how often a grid is widened before a choice at its edge is left there
OWN = ("target", "weights", "data", "budget_bytes", "seeds", "methods", "calibration_seed")


@dataclass(frozen=True)
class Asked:
    """What is compared.

    Args:
        target: ``torchvision:NAME``, ``timm:NAME``, or ``package.module:function`` called as ``function(shape, outputs)``.
        data: folders of images (``folder:PATH``) or names of sets, each a task.
        budget: bytes that a task may keep; None: any.
        weights: file of the network's weights; None: as its constructor leaves it.
        seeds: of the runs.
        methods: names of experiments under ``methods/``.
        calibration_seed: of the runs by which rates are chosen.
        others: any option of the experiments.

    """

    target: str
    data: Sequence[str]
    budget: int | None
    weights: str | None
    seeds: Sequence[int]
    methods: Sequence[str]
    calibration_seed: int
    others: Sequence[str]

    def overrides(self, method: str) -> list[str]:
        """The experiment of a method on this network and these images."""
        first, *more = self.data
        library = self.target.partition(":")[0] in ("torchvision", "timm")
        target = "tasks.networks.catalogue:catalogue" if library else self.target
        given = [f"experiment={FAMILY}{method}", "target=custom", f"target.constructor={quoted(target)}"]
        given += [f"target.kwargs.name={quoted(self.target)}"] if library else []
        given += [f"target.weights={quoted(str(Path(self.weights).resolve()))}"] if self.weights else []
        names = ", ".join(quoted(name) for name in more)
        return [
            *given,
            f"data={first}",
            "data.rgb=null",
            f"stream.tasks={len(self.data)}",
            f"stream.others=[{names}]",
            *self.others,
        ]


@dataclass(frozen=True)
class Method:
    """A method, what it keeps, and what came of it.

    Args:
        name: of its experiment.
        title: in words.
        given: its overrides.
        why: it is not run; "" where it is.
        costs: of a task.
        held_out: training images of each task that rates are chosen on.
        rate: that was chosen.
        values: accuracy of each seed.
        seconds: of a run, on average.
        folders: of the runs.

    """

    name: str
    title: str
    given: Sequence[str]
    why: str = ""
    costs: Costs = field(default_factory=lambda: Costs(0, 0, 0))
    held_out: int = 0
    rate: float = math.nan
    values: Sequence[float] = ()
    seconds: float = math.nan
    folders: Sequence[Path] = ()


def compare(overrides: Sequence[str], root: Path) -> int:
    """Run every method that fits the budget, and write table, picture, report and winner into ``root``.

    Args:
        overrides: ``target=... data=... budget_bytes=... key=value``; see `Asked`.
        root: a folder; the same command goes on where it stopped.

    """
    asked = parsed(overrides)
    plans = [_planned(method, asked) for method in asked.methods]
    _refuse_none(plans, asked)
    done = [plan if plan.why else _run(plan, asked, root) for plan in plans]
    ran = sorted((method for method in done if not method.why), key=lambda method: -fmean(method.values))
    text = table(ran, [method for method in done if method.why])
    write_atomic(root / "table.txt", text)
    write_json(root / "table.json", [_plain(method) for method in ran])
    write_atomic(root / "picture.svg", picture(ran))
    page = write(
        [f for m in ran for f in m.folders], root / "report.html", f"{asked.target}: methods compared", draws=draws()
    )
    print(text)
    print(f"picture: {root / 'picture.svg'}\nreport: {page}\nwinner: {_keep(ran[0], root / 'winner')}")
    return 0


def parsed(overrides: Sequence[str]) -> Asked:
    """What a command line asks for. UserError for what lacks, and for a value that is none."""
    pairs = [item.partition("=")[::2] for item in overrides]
    given = {key: value for key, value in pairs if key in OWN}
    for key, example in (("target", "torchvision:resnet18"), ("data", "folder:PATH")):
        if not given.get(key):
            raise UserError(f"compare takes a network and images; got no {key}; pass {key}={example}")
    known = [name.removeprefix(FAMILY) for name in experiments() if name.startswith(FAMILY)]
    methods = given.get("methods", ",".join(known)).split(",")
    for name in methods:
        if name not in known:
            raise UserError(f"a method is one of {', '.join(known)}; got {name!r}; nearest: {nearest(name, known)}")
    budget = given.get("budget_bytes")
    return Asked(
        given["target"],
        given["data"].split(","),
        None if budget is None else _whole("budget_bytes", budget),
        given.get("weights"),
        [_whole("seeds", one) for one in given.get("seeds", "0,1,2").split(",")],
        methods,
        _whole("calibration_seed", given.get("calibration_seed", "100")),
        [item for item in overrides if item.partition("=")[0] not in OWN],
    )


def table(ran: Sequence[Method], left_out: Sequence[Method]) -> str:
    """The methods as aligned columns, the best first, and why others were not run."""
    head = ["method", "accuracy, %", "95 % interval", "bytes a task", "parameters a task", "seconds a run", "rate"]
    rows = [head]
    for method in ran:
        found = interval(method.values)
        between = "one seed" if found is None else " to ".join(f"{100 * value:.2f}" for value in found)
        costs = (f"{method.costs.bytes_per_task:,}", f"{method.costs.parameters_per_task:,}")
        rows.append(
            [
                method.title,
                f"{100 * fmean(method.values):.2f}",
                between,
                *costs,
                f"{method.seconds:,.1f}",
                f"{method.rate:g}",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
    lines[1:1] = ["-" * len(lines[0])]
    return "\n".join([*lines, *(f"{method.title}: {method.why}" for method in left_out)]) + "\n"


def picture(ran: Sequence[Method]) -> str:
    """Accuracy against bytes per task, each method named."""
    points = [(method.title, float(method.costs.bytes_per_task), fmean(method.values)) for method in ran]
    looks = styles([name for name, _, _ in points])
    label = "Accuracy against bytes a task: " + ", ".join(f"{n} {y:.3f} at {x:,.0f}" for n, x, y in points)
    axes = ("bytes per task", "test accuracy, mean over tasks")
    return document(scatter("compared", label, points, [looks[name] for name, _, _ in points], axes, log=True))


def _whole(key: str, text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"{key} takes whole numbers, 0 or more; got {text!r}; correct it")
    return int(text)


def _planned(name: str, asked: Asked) -> Method:
    """What a method would keep, from its learner before any training."""
    config = load(asked.overrides(name))
    method = Method(name, config["title"], asked.overrides(name))
    subject, bench = _bench(config, asked.seeds[0])
    try:
        learner = subject.learn(bench)
    except RefusedError as error:
        return replace(method, why=f"not run: {error}")
    tasks = list(subject.tasks(bench))
    if alone := [task.name for task in tasks if task.classes < 2]:
        raise UserError(f"a task tells classes apart, two or more; {alone[0]} has one; add a folder of another class")
    costs = learner.costs()
    held_out = max(1, min(len(task.train) for task in tasks) // 5)
    fits = asked.budget is None or costs.bytes_per_task <= asked.budget
    why = "" if fits else f"not run: a task keeps {costs.bytes_per_task:,} bytes, more than {asked.budget:,}"
    return replace(method, why=why, costs=costs, held_out=held_out)


def _bench(config: Mapping[str, Any], seed: int) -> tuple[Any, Bench]:
    torch.set_num_threads(config["threads"])
    return experiment(config["run"]), Bench(seeds(seed), device_of(config["device"]), config["title"], config["data"])


def _refuse_none(plans: Sequence[Method], asked: Asked) -> None:
    if any(not plan.why for plan in plans):
        return
    sized = [plan for plan in plans if plan.costs.bytes_per_task]
    if not sized:
        raise UserError(f"no method acts on this network; {plans[0].title}: {plans[0].why}; take another network")
    least = min(sized, key=lambda plan: plan.costs.bytes_per_task)
    raise UserError(
        f"a budget holds one method at least; the smallest, {least.name}, keeps {least.costs.bytes_per_task:,} bytes a task; got "
        f"budget_bytes={asked.budget}; raise it"
    )


def _run(plan: Method, asked: Asked, root: Path) -> Method:
    """Choose the rate on held-out training images, then train once per seed."""
    rate = _rate(plan, asked, root)
    command = ["python", "-m", "tasks", "train"]
    folders = []
    for seed in asked.seeds:
        given = [*plan.given, f"optimizer.lr={rate}", f"seed={seed}"]
        folders.append(execute(load(given), root=root / "runs", command=[*command, *given], results=root / "choices"))
    results = [read_json(folder / "result.json") for folder in folders]
    seconds = fmean(result["seconds"] for result in results)
    return replace(plan, rate=rate, values=[r["value"] for r in results], seconds=seconds, folders=folders)


def _rate(plan: Method, asked: Asked, root: Path) -> float:
    """The best of a grid that is widened by threes until its choice is no longer at an edge."""
    config = load(plan.given)
    rates = sorted(map(float, config["select"]["grid"]["optimizer.lr"]))
    for _ in range(ROUNDS):
        grid = ", ".join(f"{rate:g}" for rate in rates)
        options = [f"select.grid={{optimizer.lr: [{grid}]}}", f"select.held_out={plan.held_out}"]
        options.append(f"select.seeds=[{asked.calibration_seed}]")
        select([*plan.given, *options], root=root / "runs" / "select", results=root / "choices")
        found = read_json(selection_file(root / "choices", config["experiment"]))
        best = float(found["choice"]["optimizer.lr"])
        if not found["edge"]["optimizer.lr"]:
            return best
        rates = sorted({*rates, best * 3 if best == rates[-1] else best / 3})
    return best


def _plain(method: Method) -> dict[str, Any]:
    costs = {"bytes_per_task": method.costs.bytes_per_task, "parameters_per_task": method.costs.parameters_per_task}
    mean = {"accuracy": fmean(method.values), "interval": interval(method.values), "values": list(method.values)}
    return {
        "method": method.name,
        "title": method.title,
        **mean,
        **costs,
        "seconds": method.seconds,
        "rate": method.rate,
    }


def _keep(best: Method, folder: Path) -> Path:
    """The model of the first seed of the best method, sealed, as `neuromod.from_pretrained` loads it."""
    run = best.folders[0]
    config = read_json(run / "config.json")
    subject, bench = _bench(config, config["seed"])
    learner = subject.learn(bench)
    found = Run.at(run).load()
    assert found is not None
    learner.load_state_dict(found[0]["state"]["learner"])
    for task in learner.model.tasks():
        learner.model.seal(task)
    save_pretrained(learner.model.eval(), folder)
    return folder
