"""The former place of `tasks.data.folders`."""

from tasks.data.folders import load_folder

__all__ = ["load_folder"]
