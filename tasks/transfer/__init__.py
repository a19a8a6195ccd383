"""One trained network carried to other tasks: as bits over what tuning moves."""

from tasks.transfer.switches import Switches

__all__ = ["Switches"]
