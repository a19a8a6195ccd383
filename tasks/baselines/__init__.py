"""Brackets for every result: nothing trained, a readout alone, everything trained."""

from tasks.baselines.dense import Dense
from tasks.baselines.nothing import Nothing
from tasks.baselines.ridge import Ridge

__all__ = ["Dense", "Nothing", "Ridge"]
