"""Learned tasks at rest: packed masks and their arithmetic, the bank, its store on disk."""

from neuromod.bank.bank import Bank

__all__ = ["Bank"]
