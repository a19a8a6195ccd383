"""The command line: train, select, list, report, ledger, reproduce, compare, demo."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from neuromod import RefusedError
from tasks.errors import UserError

RESULTS = Path("results")


def main(arguments: Sequence[str]) -> int:
    """Run a command; a user's mistake is one line on stderr and exit status 2."""
    options = _parsed(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        _refuse_bytes(arguments)
        return command(options)
    except (UserError, RefusedError, FloatingPointError) as error:
        return _refused(str(error))
    except BrokenPipeError:
        # The reader of a pipe has seen enough (`| head`); nothing is left to be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A full disk, a folder that may not be written: the system says which, and no line of this code is to blame.
        where = f" at {error.filename}" if error.filename else ""
        return _refused(f"files must be read and written; the system says {error.strerror or error}{where}; mend that")
    except (MemoryError, torch.OutOfMemoryError) as error:
        return _refused(
            f"what is asked must fit the memory; {error or 'it does not'}; take a smaller batch, or fewer tasks"
        )
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _refused(text: str) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return 2


def _refuse_bytes(arguments: Sequence[str]) -> None:
    """A name of a file may be any bytes, and a record of a run holds text alone."""
    for text in arguments:
        if not text.isascii() and text.encode(errors="replace") != text.encode(errors="surrogatepass"):
            raise UserError(f"arguments are text in UTF-8; got {text!r}; rename the file or the folder")
        if "\0" in text:
            raise UserError(f"arguments are text without a zero byte; got {text!r}; correct it")


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
    in_results: dict[str, Any] = {"type": Path, "default": RESULTS, "metavar": "FOLDER", "help": about}
    overrides: dict[str, Any] = {"nargs": "+", "metavar": "key=value", "help": "experiment=NAME and any option of it"}
    for name, run, text in (
        ("train", _train, "run an experiment; the same command again resumes it or does nothing"),
        ("select", _select, "choose hyper-parameters from the experiment's grid on held-out training data"),
    ):
        made = command(name, run, text)
        made.add_argument("overrides", **overrides)
        made.add_argument("--root", type=Path, default=Path("runs"), help="folder of the runs (runs)")
        if name == "train":
            made.add_argument(
                "-m", "--multirun", action="store_true", help="all combinations: seed=0,1 optimizer.lr=0.1,0.3"
            )
            made.add_argument(
                "-j", "--jobs", type=_jobs, default=1, help="processes, for many runs or for one bank (1)"
            )
        else:
            made.add_argument("--results", **in_results)
    made = command(
        "list", _list, "list experiments and what they are (those that have all WORDs), then the other groups"
    )
    made.add_argument("words", nargs="*", metavar="WORD")
    _of_results(command, in_results)
    return parser


def _of_results(command: Callable[..., argparse.ArgumentParser], in_results: dict[str, Any]) -> None:
    """The commands on finished runs and on the ledger."""
    made = command("report", _report, "write one HTML page from finished runs")
    made.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs; configs=FOLDER for drawings of your own")
    made.add_argument("--out", type=Path, default=Path("report.html"))
    made.add_argument("--title", default="neuromod")
    made = command("ledger", _ledger, "show the ledger; --run ROW writes rows, --check proves them")
    made.add_argument(
        "--check", action="store_true", help="compute the ledger again, ask git for its bars; exit 1 for what is wrong"
    )
    made.add_argument("--bars", action="store_true", help="with --check: exit 1 for missed bars too")
    made.add_argument("--run", dest="rows", nargs="+", metavar="ROW", help="run rows of the bars ('all')")
    made.add_argument("--root", type=Path, default=Path("runs"))
    made.add_argument("--results", **in_results)
    made = command("reproduce", _reproduce, "run a row of the ledger again and print both figures")
    made.add_argument("row")
    made.add_argument("--root", type=Path, default=Path("runs/reproduced"))
    made.add_argument("--results", **in_results)
    made = command("compare", _compare, "methods of transfer on your own network and images, at a budget of bytes")
    words = "target=torchvision:NAME data=folder:PATH,folder:PATH [weights=FILE budget_bytes=N seeds=0,1,2 methods=A,B], any option"
    made.add_argument("overrides", nargs="+", metavar="key=value", help=words)
    made.add_argument(
        "--root", type=Path, default=Path("runs/compare"), help="folder of what is written (runs/compare)"
    )
    made = command("demo", _demo, "one frozen random network, five modulators, a report")
    made.add_argument("--root", type=Path, default=Path("runs/demo"))


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1; got {text!r}")
    return int(text)


def _train(options: argparse.Namespace) -> int:
    from tasks.commands.train import train

    return train(options)


def _select(options: argparse.Namespace) -> int:
    from tasks.commands.select import select

    return select(options.overrides, root=options.root / "select", results=options.results)


def _list(options: argparse.Namespace) -> int:
    from tasks.commands.listing import listing

    return listing(options)


def _report(options: argparse.Namespace) -> int:
    from tasks.commands.draws import draws
    from tasks.config.files import folders_of
    from tasks.report import write

    folders = folders_of(options.runs)
    runs = [Path(run) for run in options.runs if not run.startswith("configs=")]
    print(write(runs, options.out, options.title, draws=draws(folders=folders)))
    return 0


def _ledger(options: argparse.Namespace) -> int:
    from tasks.commands import rows

    if options.rows:
        rows.run(options.rows, root=options.root, results=options.results)
    return rows.show(options.results, check=options.check, missed=options.bars, root=options.root)


def _reproduce(options: argparse.Namespace) -> int:
    from tasks.commands import rows

    return rows.reproduce(options.row, root=options.root, results=options.results)


def _compare(options: argparse.Namespace) -> int:
    from tasks.commands.compare import compare

    return compare(options.overrides, options.root)


def _demo(options: argparse.Namespace) -> int:
    from tasks.commands.demo import demo

    return demo(options.root)
