"""Sources: where raw numbers come from."""

from neuromod.sources.base import Context, Row, Rows, Source
from neuromod.sources.hypernet import Hypernet
from neuromod.sources.lowrank import LowRank
from neuromod.sources.sealed import Sealed
from neuromod.sources.table import Table

__all__ = ["Context", "Hypernet", "LowRank", "Row", "Rows", "Sealed", "Source", "Table"]
