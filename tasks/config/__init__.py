"""Configs: where they lie, what an override says, what a name in them names; `load` was public here before it had a file."""

from tasks.config.load import load

__all__ = ["load"]
