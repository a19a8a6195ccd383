"""What a random network already contains: strong lottery tickets of drawn and of trained networks, and of a head of attention."""

from tasks.tickets.attention import AttentionHead
from tasks.tickets.drawn import Drawn
from tasks.tickets.trained import Trained

__all__ = ["AttentionHead", "Drawn", "Trained"]
