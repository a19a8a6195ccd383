"""What names a run: a slug for people, and a hash of all that it is made of."""

import re
from collections.abc import Mapping
from typing import Any

from tasks.errors import UserError
from tasks.runs.files import canonical, digest

SLUG_LENGTH = 100

# What names a run for people, chooses among runs, or says how often one is told of: the same run whatever they say.
BESIDE = ("title", "select", "log_every")


def told(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what is `BESIDE` it."""
    return {key: value for key, value in config.items() if key not in BESIDE}


def config_hash(config: Mapping[str, Any], fingerprint: str) -> str:
    """Ten hex digits over every resolved value but `BESIDE`, defaults too, and the target's fingerprint.

    Nothing is left out for being at its default: a default that changes later must not point at old folders.
    """
    return digest(canonical({"config": told(config), "fingerprint": fingerprint}))[:10]


def slug(text: str) -> str:
    """The readable beginning of a folder's name. UserError for a text without letters and digits."""
    made = re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:SLUG_LENGTH].strip("-.")
    if not made:
        raise UserError(f"a run needs a name with letters or digits; got {text!r}; name the experiment")
    return made
