"""What can be trained on a stream: modulators of a frozen network, and the brackets and methods they are compared with."""

from tasks.continual.learners.base import Base, Learner
from tasks.continual.learners.batch_ensemble import BatchEnsemble
from tasks.continual.learners.dense import Dense
from tasks.continual.learners.ewc import OnlineEwc
from tasks.continual.learners.modulated import Modulated
from tasks.continual.learners.nothing import Nothing
from tasks.continual.learners.psp import Psp
from tasks.continual.learners.ridge import Ridge
from tasks.continual.learners.routed import Routed
from tasks.continual.learners.separate import Separate

__all__ = [
    "Base",
    "BatchEnsemble",
    "Dense",
    "Learner",
    "Modulated",
    "Nothing",
    "OnlineEwc",
    "Psp",
    "Ridge",
    "Routed",
    "Separate",
]
