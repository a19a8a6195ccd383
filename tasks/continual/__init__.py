"""Experiments on streams of tasks: in sequence, jointly, in a bank, online."""

from tasks.continual.bank import Bank
from tasks.continual.online import Online
from tasks.continual.sequence import Joint, Sequence

__all__ = ["Bank", "Joint", "Online", "Sequence"]
