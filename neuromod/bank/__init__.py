"""Learned tasks at rest: packed masks and their arithmetic, the bank, its store on disk."""

from neuromod.bank.bank import Bank
from neuromod.bank.pretrained import from_pretrained, save_pretrained
from neuromod.bank.store import Store

__all__ = ["Bank", "Store", "from_pretrained", "save_pretrained"]
