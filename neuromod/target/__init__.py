"""The frozen network: what it is made of, where it can be modulated, and the copy of it that runs."""

from neuromod.target.recipe import Recipe
from neuromod.target.sites import Site
from neuromod.target.target import Target

__all__ = ["Recipe", "Site", "Target"]
