"""One trained network carried to other tasks: as bits over what tuning moves, or by rows that a description gives."""

from tasks.transfer.compressed import Compressed
from tasks.transfer.described import Described
from tasks.transfer.switches import Switches

__all__ = ["Compressed", "Described", "Switches"]
