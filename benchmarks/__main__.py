"""``python -m benchmarks NAME [--json] [--quick]`` or ``--list``; exits 1 when a bar is missed."""

import argparse
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Sequence

import benchmarks
from benchmarks.timing import Report

HELPERS = ("__main__", "machine", "meta_peers", "timing", "vit")


def names() -> list[str]:
    """The benchmarks: every module of this package that helps no other."""
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in HELPERS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("name", nargs="?", choices=names())
    parser.add_argument("--list", action="store_true", help="the names, one a line")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="a third of the turns: a look, not a result")
    parser.add_argument("--peers", action="store_true", help="beside other libraries, where a benchmark has them")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(names()))
        return 0
    if options.name is None:
        parser.error(f"name a benchmark: {', '.join(names())}")
    from benchmarks import machine  # it imports torch, which --list can do without

    machine.fix_environment()
    run = importlib.import_module(f"benchmarks.{options.name}").run
    more = {"peers": True} if options.peers else {}
    if more.keys() - inspect.signature(run).parameters.keys():
        parser.error(f"--peers needs a benchmark that has peers; {options.name} has none; drop it")
    report: Report = run(quick=options.quick, **more)
    print(report.json() if options.json else report.table())
    return report.status


if __name__ == "__main__":
    sys.exit(main())
