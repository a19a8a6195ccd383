"""Sources: where raw numbers come from."""

from neuromod.sources.base import Row, Rows, Source
from neuromod.sources.bodies import SetEncoder
from neuromod.sources.context import Context
from neuromod.sources.hypernet import Hypernet
from neuromod.sources.lowrank import LowRank
from neuromod.sources.mixture import Mixture
from neuromod.sources.sealed import Sealed
from neuromod.sources.subspace import Subspace
from neuromod.sources.table import Table

__all__ = [
    "Context",
    "Hypernet",
    "LowRank",
    "Mixture",
    "Row",
    "Rows",
    "Sealed",
    "SetEncoder",
    "Source",
    "Subspace",
    "Table",
]
