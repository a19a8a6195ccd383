"""Image sets: where they come from, and what is done to their pixels; `load` was public here before it had a file."""

from tasks.data.load import load

__all__ = ["load"]
