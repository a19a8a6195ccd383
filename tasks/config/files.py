"""Where configs lie: the project's folder, and those that a user names."""

from collections.abc import Sequence
from pathlib import Path

from tasks.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


def folders_of(overrides: Sequence[str]) -> list[Path]:
    """The folders of a user's own configs that overrides name, ``configs=FOLDER``. UserError for one that does not exist."""
    found = [Path(item.partition("=")[2]) for item in overrides if item.startswith("configs=")]
    if absent := [folder for folder in found if not folder.is_dir()]:
        raise UserError(
            f"configs must be a folder with experiment/NAME.yaml in it; {absent[0]} is none; correct the path"
        )
    return found


def options(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """The names that a config group knows."""
    roots = [folder / group for folder in (*folders, CONFIGS)]
    return sorted({str(p.relative_to(root).with_suffix("")) for root in roots for p in root.rglob("*.yaml")})
