"""Strong lottery tickets: a random network, drawn first, already contains any smaller network; masks say where.

Malach et al. 2020 prove it, Orseau et al. 2020 and Pensia et al. 2020 with a logarithmic factor. Nothing is trained: a weight is
a sum of some of the products that the random network holds, and which ones is an exact subset sum (`subset_sum`).
"""

from neuromod.tickets.attention import HeadProducts, RandomHead, head_products, relative_error
from neuromod.tickets.certificate import certificate, measured_error, unit_ball
from neuromod.tickets.network import RandomMLP
from neuromod.tickets.subset_sum import median_error_law, shared_subset_sum, subset_sum
from neuromod.tickets.ticket import MLPTicket, Ticket

__all__ = [
    "HeadProducts",
    "MLPTicket",
    "RandomHead",
    "RandomMLP",
    "Ticket",
    "certificate",
    "head_products",
    "measured_error",
    "median_error_law",
    "relative_error",
    "shared_subset_sum",
    "subset_sum",
    "unit_ball",
]
