"""One trained network carried to other tasks: by any kind of modulation, or as bits over what tuning moves."""

from tasks.transfer.modulations import Modulations
from tasks.transfer.switches import Switches

__all__ = ["Modulations", "Switches"]
