"""Rewiring: sparse wires that are cut, moved and grown by one rule, over a copy of the weights or over a frozen network."""

from neuromod.rewiring.counts import wire_counts
from neuromod.rewiring.rewiring import Rewiring
from neuromod.rewiring.rule import RULES, Rule, rule_of
from neuromod.rewiring.scores import SCORES, Evidence, Score

__all__ = [
    "RULES",
    "SCORES",
    "Evidence",
    "Rewiring",
    "Rule",
    "Score",
    "rule_of",
    "wire_counts",
]
