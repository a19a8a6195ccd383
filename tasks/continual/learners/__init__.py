"""Brackets for every result, and the methods that it is compared with; all but ridge and nothing train plain networks."""

from tasks.continual.learners.batch_ensemble import BatchEnsemble
from tasks.continual.learners.build import OPTIONS, baseline
from tasks.continual.learners.dense import Dense
from tasks.continual.learners.ewc import OnlineEwc
from tasks.continual.learners.nothing import Nothing
from tasks.continual.learners.psp import Psp
from tasks.continual.learners.ridge import Ridge
from tasks.continual.learners.separate import Separate

__all__ = ["OPTIONS", "BatchEnsemble", "Dense", "Nothing", "OnlineEwc", "Psp", "Ridge", "Separate", "baseline"]
