"""``list``: what there is to run, and what each experiment is."""

import argparse
import textwrap

from tasks.config.files import folders_of, options
from tasks.config.load import description, experiments
from tasks.config.overrides import PLACES


def listing(chosen: argparse.Namespace) -> int:
    """Print every experiment with what it says of itself, or those that have all of some words; then the other groups."""
    folders = folders_of(chosen.words)
    words = [word.lower() for word in chosen.words if not word.startswith("configs=")]
    for name in experiments(folders):
        text = description(name, folders)
        lines = [f"{name}: {text.get('title') or 'many runs'}"]
        lines += textwrap.wrap(" ".join(str(text.get("says", "")).split()), 112)
        lines += [str(text["paper"])] if text.get("paper") else []
        if all(word in " ".join(lines).lower() for word in words):
            print("\n    ".join(lines))
    if not words:
        for group in (name for name in PLACES if name != "measures"):
            print(f"{group}: {', '.join(options(group, folders))}")
    return 0
