"""Rewiring: sparse wires that are cut, moved and grown by one rule, over a copy of the weights or over a frozen network."""

from neuromod.rewiring.counts import wire_counts
from neuromod.rewiring.rewiring import Rewiring
from neuromod.rewiring.rule import (
    ACTIVITY,
    DNW,
    GMP,
    GRASP,
    MAGNITUDE,
    RIGL,
    RULES,
    SET,
    SNFS,
    SNIP,
    STATIC,
    SYNFLOW,
    TOPOLOGY,
    Rule,
    rule_of,
)
from neuromod.rewiring.scores import SCORES, Evidence, Score

__all__ = [
    "ACTIVITY",
    "DNW",
    "GMP",
    "GRASP",
    "MAGNITUDE",
    "RIGL",
    "RULES",
    "SCORES",
    "SET",
    "SNFS",
    "SNIP",
    "STATIC",
    "SYNFLOW",
    "TOPOLOGY",
    "Evidence",
    "Rewiring",
    "Rule",
    "Score",
    "rule_of",
    "wire_counts",
]
