"""Arithmetic on many packed masks at once: one row of bits a task, and no row is ever unpacked as a whole."""
