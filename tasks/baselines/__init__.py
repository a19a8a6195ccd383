"""Brackets for every result, and the methods that it is compared with; all but ridge and nothing train plain networks."""

from tasks.baselines.batch_ensemble import BatchEnsemble
from tasks.baselines.build import OPTIONS, baseline
from tasks.baselines.dense import Dense
from tasks.baselines.ewc import OnlineEwc
from tasks.baselines.nothing import Nothing
from tasks.baselines.psp import Psp
from tasks.baselines.ridge import Ridge
from tasks.baselines.separate import Separate

__all__ = ["OPTIONS", "BatchEnsemble", "Dense", "Nothing", "OnlineEwc", "Psp", "Ridge", "Separate", "baseline"]
