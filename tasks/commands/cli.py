"""The command line: train, select, list, report, ledger, reproduce, demo."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from neuromod import RefusedError
from tasks.errors import UserError

RESULTS = Path("results")


def main(arguments: Sequence[str]) -> int:
    """Run a command; a user's mistake is one line on stderr and exit status 2."""
    options = _parsed(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except (UserError, RefusedError, FloatingPointError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe has seen enough (`| head`); nothing is left to be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; overrides may stand on both sides of an option, where argparse alone takes those before it."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all("=" in item and item[0] != "-" for item in rest)):
        parser.error(f"unknown arguments: {' '.join(rest)}; python -m tasks COMMAND --help lists those that are known")
    if rest:
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks", description="Experiments with one frozen network.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    about = "folder of bars, choices and ledgers (results)"
    in_results = {"type": Path, "default": RESULTS, "metavar": "FOLDER", "help": about}
    overrides = {"nargs": "+", "metavar": "key=value", "help": "experiment=NAME and any option of configs/train.yaml"}
    for name, run, text in (
        ("train", _train, "run an experiment; the same command again resumes it or does nothing"),
        ("select", _select, "choose hyper-parameters from the experiment's grid on held-out training data"),
    ):
        made = command(name, run, text)
        made.add_argument("overrides", **overrides)  # type: ignore[arg-type]
        made.add_argument("--root", type=Path, default=Path("runs"), help="folder of the runs (runs)")
        if name == "train":
            made.add_argument(
                "-m", "--multirun", action="store_true", help="all combinations: seed=0,1 optimizer.lr=0.1,0.3"
            )
            made.add_argument(
                "-j", "--jobs", type=_jobs, default=1, help="processes, for many runs or for one bank (1)"
            )
        else:
            made.add_argument("--results", **in_results)  # type: ignore[arg-type]
    command("list", _list, "list experiments, targets, modulators, streams and optimizers")
    made = command("report", _report, "write one HTML page from finished runs")
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    made.add_argument("--out", type=Path, default=Path("report.html"))
    made.add_argument("--title", default="neuromod")
    made = command("ledger", _ledger, "show the ledger; --run ROW writes rows, --check proves them")
    made.add_argument(
        "--check", action="store_true", help="compute the ledger again, ask git for its bars; exit 1 for what is wrong"
    )
    made.add_argument("--bars", action="store_true", help="with --check: exit 1 for missed bars too")
    made.add_argument("--run", dest="rows", nargs="+", metavar="ROW", help="run rows of the bars ('all')")
    made.add_argument("--root", type=Path, default=Path("runs"))
    made.add_argument("--results", **in_results)  # type: ignore[arg-type]
    made = command("reproduce", _reproduce, "run a row of the ledger again and print both figures")
    made.add_argument("row")
    made.add_argument("--root", type=Path, default=Path("runs/reproduced"))
    made.add_argument("--results", **in_results)  # type: ignore[arg-type]
    made = command("demo", _demo, "one frozen random network, five modulators, a report")
    made.add_argument("--root", type=Path, default=Path("runs/demo"))
    return parser


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1; got {text!r}")
    return int(text)


def _train(options: argparse.Namespace) -> int:
    from tasks.commands.sweep import swept
    from tasks.config.load import load
    from tasks.experiment import execute
    from tasks.report import write
    from tasks.runs.files import read_json

    if options.multirun:
        return _multirun(options, options.overrides)
    config = load(options.overrides)
    if "sweep" in config:
        return _multirun(options, swept(config, options.overrides))
    folder = execute(config, root=options.root, command=_command("train", options.overrides), jobs=options.jobs)
    result = read_json(folder / "result.json")
    print(f"{result['title']}: accuracy {result['accuracy']:.4f}, forgetting {result['forgetting']}")
    for method, found in result.get("inference", {}).items():
        if "group" not in found:
            print(f"task inference by {method}: {found['image']:.4f}; class accuracy end to end {found['class']:.4f}")
            continue
        print(
            f"task inference by {method}: {found['image']:.4f} for one image, {found['group']:.4f} for "
            f"{found['group_size']}; class accuracy end to end {found['class']:.4f}"
        )
    for name in ("swapped", "shuffled"):
        if found := result.get(name):
            print(f"accuracy under {name} conditions: {found['accuracy']:.4f} (chance {found['chance']:.4f})")
    page = folder / "plots" / "report.html"
    if not page.exists():
        write([folder], page, result["title"], [])
    print(f"pictures: {page}")
    print(folder)
    return 0


def _multirun(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    from tasks.commands.sweep import sweep
    from tasks.report import write
    from tasks.runs.files import read_json

    folders = sweep(overrides, root=options.root, jobs=options.jobs)
    for folder in folders:
        result = read_json(folder / "result.json")
        print(f"{result['title']}: accuracy {result['accuracy']:.4f}  {folder}")
    print(f"pictures: {write(folders, options.root / 'report.html', 'neuromod', [])}")
    return 0


def _select(options: argparse.Namespace) -> int:
    from tasks.commands.select import select

    return select(options.overrides, root=options.root / "select", results=options.results)


def _list(options: argparse.Namespace) -> int:
    from tasks.config.load import options as names

    for group in ("experiment", "target", "modulator", "stream", "optimizer"):
        print(f"{group}:\n  " + "\n  ".join(names(group)))
    return 0


def _report(options: argparse.Namespace) -> int:
    from tasks.report import write

    print(write(options.runs, options.out, options.title, []))
    return 0


def _ledger(options: argparse.Namespace) -> int:
    from tasks.commands import rows

    if options.rows:
        rows.run(options.rows, root=options.root, results=options.results)
    return rows.show(options.results, check=options.check, missed=options.bars, root=options.root)


def _reproduce(options: argparse.Namespace) -> int:
    from tasks.commands import rows

    return rows.reproduce(options.row, root=options.root, results=options.results)


def _demo(options: argparse.Namespace) -> int:
    from tasks.commands.demo import demo

    return demo(options.root)


def _command(name: str, overrides: Sequence[str]) -> list[str]:
    return ["python", "-m", "tasks", name, *overrides]
