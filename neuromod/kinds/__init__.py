"""Kinds: what raw numbers mean, and where they act."""

from neuromod.kinds.adafm import AdaFM
from neuromod.kinds.affine import Affine
from neuromod.kinds.base import Kind
from neuromod.kinds.bernoulli import Bernoulli
from neuromod.kinds.conceptors import Conceptor
from neuromod.kinds.deltas import LowRankDelta, Rank1
from neuromod.kinds.gates import Gate
from neuromod.kinds.generated import Generated, Head
from neuromod.kinds.levels import Coats, Signed
from neuromod.kinds.masks import Threshold, TopK
from neuromod.kinds.statistics import Statistics
from neuromod.kinds.subset import Subset
from neuromod.kinds.switch import Switch
from neuromod.kinds.wires import Wires

__all__ = [
    "AdaFM",
    "Affine",
    "Bernoulli",
    "Coats",
    "Conceptor",
    "Gate",
    "Generated",
    "Head",
    "Kind",
    "LowRankDelta",
    "Rank1",
    "Signed",
    "Statistics",
    "Subset",
    "Switch",
    "Threshold",
    "TopK",
    "Wires",
]
