"""Many runs by one command: every combination of the values that overrides list, several processes at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from tasks.config.load import load
from tasks.config.overrides import readable
from tasks.errors import UserError
from tasks.experiment import execute


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each run: ``seed=0,1`` and ``optimizer.lr=0.1,0.3`` make four, the last the fastest to change."""
    try:
        parsed = OverridesParser.create().parse_overrides([readable(item) for item in overrides])
        (points,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise UserError(f"overrides must be readable; {str(error).splitlines()[0]}; correct them") from error
    return [list(point) for point in points]


def swept(config: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """The overrides of a config that lists a ``sweep``: each of its keys takes all its values, unless it is given."""
    given = {item.partition("=")[0] for item in overrides} - {"experiment"}
    lists = {key: values for key, values in config["sweep"].items() if key not in given}
    kept = [item for item in overrides if item.partition("=")[0] not in lists]
    return [*kept, *(f"{key}={','.join(map(str, values))}" for key, values in lists.items())]


def sweep(overrides: Sequence[str], *, root: Path, jobs: int) -> list[tuple[dict[str, Any], Path]]:
    """Run every combination, ``jobs`` at once; configs and folders in their order. Finished runs are left as they are.

    Args:
        overrides: as on the command line; ``key=1,2`` lists values.
        root: the folder of the runs.
        jobs: processes, 1 or more.

    """
    from joblib import Parallel, delayed

    points = expand(overrides)
    configs = [load(point) for point in points]  # a mistake in the last point is told before the first is run
    folders = Parallel(n_jobs=jobs)(delayed(_run)(point, root) for point in points)
    return list(zip(configs, folders, strict=True))


def _run(overrides: Sequence[str], root: Path) -> Path:
    return execute(load(overrides), root=root, command=["python", "-m", "tasks", "train", *overrides])
