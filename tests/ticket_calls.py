"""Right calls of what finds tickets, for the draws of wrong arguments."""

import torch
from torch import nn

from neuromod import tickets
from tests.right_calls import Call
from tests.tickets.slow import mlp


def ticket_calls() -> dict[str, Call]:
    """A right call of everything in `neuromod.tickets`."""
    random, target = tickets.RandomMLP((3, 4, 2), n=6, spare=2, scale=3.0), mlp(3, 4, 2)
    ticket, model = random.find(target), random.model()
    ticket.put(model, 0)
    attention = nn.MultiheadAttention(4, 2, bias=False, batch_first=True)
    head, products = tickets.RandomHead(4, n=6, spare=2, scale=8.0), tickets.head_products(attention, 0)
    found, heads = head.find(products), head.model()
    found.put(heads, 0)
    numbers = {"norms": (2, 1), "errors": (0.1, 0.2), "radius": 1.0, "biases": (1, 1), "bias_errors": (0.1, 0.1)}
    return {
        "subset_sum": Call(tickets.subset_sum, {"targets": torch.ones(2), "candidates": torch.rand(2, 4)}),
        "shared_subset_sum": Call(tickets.shared_subset_sum, {"targets": torch.ones(2), "candidates": torch.rand(4)}),
        "median_error_law": Call(tickets.median_error_law, {"n": 8, "second_moment": 1 / 3}),
        "certificate": Call(tickets.certificate, numbers),
        "unit_ball": Call(
            tickets.unit_ball, {"samples": 5, "dimension": 3, "radius": 1.0, "seed": 0, "nonnegative": True}
        ),
        "measured_error": Call(
            tickets.measured_error, {"model": model, "task": 0, "net": target, "points": tickets.unit_ball(4, 3)}
        ),
        "relative_error": Call(
            tickets.relative_error, {"model": heads, "task": 0, "products": products, "x": torch.randn(2, 3, 4)}
        ),
        "head_products": Call(tickets.head_products, {"attention": attention, "head": 1}),
        "HeadProducts": Call(
            lambda **given: head.find(tickets.HeadProducts(**given)),
            {"scores": products.scores, "values": products.values},
        ),
        "HeadProducts()": Call(products, {"x": torch.randn(2, 3, 4)}),
        "RandomMLP": Call(
            lambda **given: tickets.RandomMLP(**given).target,
            {
                "widths": (3, 2),
                "n": 6,
                "spare": 2,
                "bias": True,
                "nonnegative_input": True,
                "scale": 1.0,
                "seed": 0,
            },
        ),
        "RandomMLP.find": Call(random.find, {"net": target, "tolerance": 0.1}),
        "RandomHead": Call(
            lambda **given: tickets.RandomHead(**given).target,
            {"dimension": 4, "n": 6, "spare": 2, "scale": 1.0, "seed": 0},
        ),
        "RandomHead.find": Call(head.find, {"products": products, "tolerance": 0.1}),
        "MLPTicket.put": Call(lambda **given: ticket.put(random.model(), **given), {"task": 1}),
        "MLPTicket.put, model": Call(
            lambda model: ticket.put(random.model() if model is None else model, 1), {"model": random.model()}
        ),
        "MLPTicket.certificate": Call(ticket.certificate, {"radius": 2.0}),
    }
