"""A head of attention is two products of matrices, and both are found in a wider random head."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from neuromod import RefusedError
from neuromod.tickets import HeadProducts, RandomHead, head_products, relative_error


def attention(**options: Any) -> nn.MultiheadAttention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.MultiheadAttention(8, 4, **{"bias": False, "batch_first": True, **options})


def tokens() -> torch.Tensor:
    return torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(1))


def test_heads_add_up_to_the_attention() -> None:
    whole, x = attention(), tokens()
    parts = sum(head_products(whole, head)(x) for head in range(4))
    assert torch.allclose(parts.float(), whole(x, x, x)[0], atol=1e-6)  # type: ignore[union-attr]


def test_masks_alone_make_the_head() -> None:
    random = RandomHead(8, n=16, spare=6, scale=2.0, seed=1)
    model = random.model()
    for head in range(4):
        products = head_products(attention(), head)
        ticket = random.find(products, tolerance=3e-4)
        ticket.put(model, head)
        assert ticket.missed <= 1
        assert relative_error(model, head, products, tokens()) < 1e-2
    assert relative_error(model, 0, products, tokens()) > 0.1
    random.target.verify()


def test_what_it_says_it_reached_is_what_the_masks_do() -> None:
    random, products = RandomHead(8, n=12), head_products(attention(), 2)
    ticket, model = random.find(products), random.model()
    ticket.put(model, 0)
    query, key, value, output = (
        model.edits(task=0)[f"{name}.weight"].double() for name in ("query", "key", "value", "output")
    )
    scores, values = (found.product.plus for found in ticket.layers)
    assert torch.allclose(query.T @ key, scores.T, atol=1e-6)
    assert torch.allclose(output @ value, values, atol=1e-6)
    assert float(ticket.errors().max()) < 0.1


@pytest.mark.parametrize(
    ("options", "head", "message"),
    [
        ({"bias": True}, 0, "this attention has biases"),
        ({"kdim": 4, "vdim": 4}, 0, "sizes of its own for keys or values"),
        ({}, 4, "head must be an integer from 0 to 3; got 4"),
        ({"add_zero_attn": True}, 0, "a head attends to its tokens alone"),
    ],
)
def test_another_attention_is_refused(options: dict[str, Any], head: int, message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)):
        head_products(attention(**options), head)


@pytest.mark.parametrize(
    ("products", "message"),
    [
        (HeadProducts(torch.full((8, 8), torch.nan), torch.zeros(8, 8)), "the product of query and key has nan"),
        (HeadProducts(torch.zeros(8, 8), torch.full((8, 8), 99.0)), "the product of value and output has 99"),
        (
            HeadProducts(torch.zeros(4, 4), torch.zeros(4, 4)),
            "the random one was drawn for, 8; got 4; draw RandomHead(4)",
        ),
        (attention(), "the products of a head must be a HeadProducts"),
    ],
)
def test_a_head_that_it_does_not_contain_is_refused(products: Any, message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)):
        RandomHead(8, n=12).find(products)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dimension": 0}, "dimension, that of the tokens, must be an integer of 1 or more; got 0"),
        ({"n": 27}, "from 2 to 26; got 27"),
        ({"scale": -1}, "must be a finite number above 0; got -1"),
    ],
)
def test_a_random_head_that_cant_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(message)):
        RandomHead(**{"dimension": 8, **wrong})


def test_products_are_square_and_read_tokens_of_their_size() -> None:
    with pytest.raises(RefusedError, match=re.escape("got (4, 4) and (4, 5); correct them")):
        HeadProducts(torch.zeros(4, 4), torch.zeros(4, 5))
    with pytest.raises(RefusedError, match=re.escape("got (2, 3, 5) for 4; pass (B, T, 4)")):
        HeadProducts(torch.zeros(4, 4), torch.zeros(4, 4))(torch.zeros(2, 3, 5))


def test_an_error_is_relative_to_what_there_is() -> None:
    products = head_products(attention(), 0)
    random = RandomHead(8, n=8)
    model = random.model()
    random.find(products).put(model, 0)
    for x, message in (
        (torch.zeros(2, 3, 8), "to one sequence it adds 0"),
        (torch.full((1, 3, 8), torch.nan), "finite sequences"),
    ):
        with pytest.raises(RefusedError, match=message):
            relative_error(model, 0, products, x)
