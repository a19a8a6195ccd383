"""One trained network carried to other tasks: by any kind of modulation, as bits over what tuning moves, by rows of a description."""

from tasks.transfer.compressed import Compressed
from tasks.transfer.described import Described
from tasks.transfer.modulations import Modulations
from tasks.transfer.switches import Switches

__all__ = ["Compressed", "Described", "Modulations", "Switches"]
