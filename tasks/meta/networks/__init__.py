"""Networks of meta-learning."""

from tasks.meta.networks.anml import ANML
from tasks.meta.networks.few import Few

__all__ = ["ANML", "Few"]
