"""neuromod: one frozen network is an instrument; small learned modulators play it.

``y = f(x ; W + kind(source(context)))``, and W never moves.
"""

from importlib import metadata

from neuromod.bake import bake
from neuromod.bank import Bank, Store, from_pretrained, save_pretrained
from neuromod.errors import RefusedError
from neuromod.kinds import (
    AdaFM,
    Affine,
    Bernoulli,
    Coats,
    Conceptor,
    Gate,
    Generated,
    Head,
    Kind,
    LowRankDelta,
    Rank1,
    Signed,
    Statistics,
    Subset,
    Switch,
    Threshold,
    TopK,
    Wires,
)
from neuromod.modulated import Modulated
from neuromod.modulator import Modulator
from neuromod.sources import Hypernet, LowRank, Mixture, Rows, SetEncoder, Source, Subspace, Table
from neuromod.target.connect import connect
from neuromod.target.delta import random_delta, shared_delta
from neuromod.target.recipe import Recipe
from neuromod.target.sites import Site
from neuromod.target.target import Target
from neuromod.training.calibrate import calibrate
from neuromod.training.fit import fit_rows
from neuromod.training.give import give
from neuromod.training.regularise import OutputRegulariser
from neuromod.training.spread import row_spread
from neuromod.training.switches import read_switch
from neuromod.training.together import Together

try:
    __version__ = metadata.version("neuromod")  # pyproject.toml says it, once
except metadata.PackageNotFoundError:  # run from a clone that is not installed
    __version__ = "0+unknown"

__all__ = [
    "AdaFM",
    "Affine",
    "Bank",
    "Bernoulli",
    "Coats",
    "Conceptor",
    "Gate",
    "Generated",
    "Head",
    "Hypernet",
    "Kind",
    "LowRank",
    "LowRankDelta",
    "Mixture",
    "Modulated",
    "Modulator",
    "OutputRegulariser",
    "Rank1",
    "Recipe",
    "RefusedError",
    "Rows",
    "SetEncoder",
    "Signed",
    "Site",
    "Source",
    "Statistics",
    "Store",
    "Subset",
    "Subspace",
    "Switch",
    "Table",
    "Target",
    "Threshold",
    "Together",
    "TopK",
    "Wires",
    "bake",
    "calibrate",
    "connect",
    "fit_rows",
    "from_pretrained",
    "give",
    "random_delta",
    "read_switch",
    "row_spread",
    "save_pretrained",
    "shared_delta",
]
