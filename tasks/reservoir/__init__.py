"""Reservoirs: forecasts, memory, two contexts by one readout, and patterns recalled by conceptors."""

from tasks.reservoir.conceptors import Conceptors
from tasks.reservoir.contexts import Contexts
from tasks.reservoir.forecast import Forecast
from tasks.reservoir.memory import Memory

__all__ = ["Conceptors", "Contexts", "Forecast", "Memory"]
