"""Heads in dual form, side by side and in closed form, against the slow loop over samples."""

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from neuromod import RefusedError
from neuromod.meta import (
    SGD,
    Functional,
    LinearHead,
    StreamingLDA,
    class_means,
    dual,
    online,
    online_dual,
    online_head,
    reset_row,
    ridge,
    streaming,
)
from neuromod.meta.shared_weight import SharedWeight
from tests.meta import slow, slow_heads
from tests.meta.nets import conv, draw, filled, forward_of, gradients, same, tensors_of

N, D, C = 37, 6, 5
FEATURES = draw(N, D, seed=1)
LABELS = torch.randint(C - 1, (N,), generator=torch.Generator().manual_seed(2))  # one class is never seen
START = LinearHead(draw(C, D, seed=3), draw(C, seed=4))


def close(found: LinearHead | tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], rtol: float = 1e-9) -> None:
    for a, b in zip(found, expected, strict=True):
        finite = torch.isfinite(b)
        assert torch.equal(torch.isfinite(a), finite)
        assert torch.allclose(a[finite], b[finite], rtol=rtol, atol=1e-12)


def test_the_dual_form_ends_at_the_weights_of_the_loop() -> None:
    found = dual.errors(FEATURES, LABELS, START, 0.2)
    expected = slow_heads.head_sgd(FEATURES, LABELS, *START, 0.2)
    close(dual.head_after(FEATURES, found, START, 0.2), expected)
    query = draw(4, D, seed=5)
    logits = dual.outputs(query, FEATURES, found, START, 0.2)
    assert torch.allclose(logits, query @ expected[0].T + expected[1], rtol=1e-10)
    none = dual.errors(FEATURES[:0], LABELS[:0], START, 0.2)
    close(dual.head_after(FEATURES[:0], none, START, 0.2), START)


@pytest.mark.parametrize("order", [1, 2])
def test_a_head_alone_is_learned_without_a_loop_and_with_the_same_gradients(order: int) -> None:
    """The encoder, its norms and the start of the head get the gradient of the unrolled loop: OML's, of either order."""
    net, images = conv(), draw(9, 1, 6, 6, seed=6)
    labels = torch.tensor([2, 2, 2, 2, 2, 0, 3, 1, 2])
    encode, head = net[:-1], net[-1]
    loss = online_head(encode, LinearHead(head.weight, head.bias), images, labels, 5, 0.3, order=order)
    loss.backward()
    named = "7.weight", "7.bias"
    episode = [([(images[i : i + 1], labels[i : i + 1]) for i in range(5)], (images, labels))]
    tensors = tensors_of(net)
    value, expected = slow.anil(forward_of(net), tensors, named, episode, cross_entropy, 0.3, order)
    assert float(loss.detach()) == pytest.approx(float(value), rel=1e-12)
    same(gradients(net), {name: expected[name] for name in tensors})


EYE = torch.eye(D, dtype=torch.float64)  # a head that gives the features as they are


class Gated(nn.Module):
    """ANML in small: features times a sigmoid of a second network's output, then a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.pn, self.nm, self.head = nn.Linear(4, D), nn.Linear(4, D), nn.Linear(D, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.pn(x)) * torch.sigmoid(self.nm(x)))


@pytest.mark.parametrize(
    ("form", "fast"),
    [
        ("unrolled", ["head.*"]),
        *((form, fast) for form in ("unrolled", "dual") for fast in (["pn.*", "head.*"], "*")),
    ],
)
@pytest.mark.parametrize("order", [1, 2])
def test_anml_and_oml_are_their_equations(order: int, fast: str | list[str], form: str) -> None:
    net, fresh = filled(Gated()), draw(D, seed=9)
    x, y = draw(4, 4, seed=7), torch.full((4,), 3)
    rest = draw(3, 4, seed=8), torch.tensor([0, 1, 3])
    declared = Functional(net, fast)
    start = declared.start()
    start["head.weight"] = reset_row(net.head.weight, 3, fresh)
    seen, labels = torch.cat([x, rest[0]]), torch.cat([y, rest[1]])
    if form == "dual":
        head = LinearHead(start.pop("head.weight"), start.pop("head.bias"))
        still = {n: p for n, p in net.named_parameters() if not n.startswith("head")}
        loss = online_dual(
            lambda fast, x: functional_call(net, {**still, **fast, "head.weight": EYE, "head.bias": EYE[0] * 0}, (x,)),
            *(start, head, seen, labels, len(x), 0.4),
            order=order,
        )
    else:
        loss = online(
            lambda tensors, batch: cross_entropy(declared(tensors, batch[0]), batch[1]),
            *(start, (x, y), (seen, labels), SGD(0.4)),
            order=order,
        )
    loss.backward()
    tensors = tensors_of(net)
    value, expected = slow.anml(
        lambda t, x: torch.tanh(x @ t["pn.weight"].T + t["pn.bias"]),
        lambda t, x: x @ t["nm.weight"].T + t["nm.bias"],
        *(tensors, ("head.weight", "head.bias"), declared.fast, (x, y), rest, 3, fresh, 0.4, order),
    )
    assert float(loss.detach()) == pytest.approx(float(value), rel=1e-12)
    same(gradients(net), {name: expected[name] for name in tensors})
    assert net.head.weight.grad is not None
    assert order == 2 or not net.head.weight.grad[3].any()


def test_no_step_is_the_plain_loss() -> None:
    net = filled(Gated())
    declared, x, y = Functional(net, "*"), draw(3, 4), torch.tensor([0, 1, 2])
    loss = online(
        lambda tensors, batch: cross_entropy(declared(tensors, batch[0]), batch[1]),
        *(declared.start(), (x[:0], y[:0]), (x, y), SGD(0.4)),
        order=2,
    )
    assert torch.equal(loss, cross_entropy(net(x), y))
    head = LinearHead(net.head.weight, net.head.bias)
    dual_loss = online_dual(lambda fast, x: x, {"w": EYE}, head, draw(3, D), y, 0, 0.4, order=2)
    assert torch.allclose(dual_loss, cross_entropy(net.head(draw(3, D)), y), rtol=1e-12)


def test_a_gate_of_one_is_no_gate() -> None:
    features, labels = FEATURES[:8], LABELS[:8]
    plain, gated = (
        online_head(encode, START, features, labels, 4, 0.3, order=2)
        for encode in (lambda x: x, lambda x: x * torch.ones(D, dtype=x.dtype))
    )
    assert torch.equal(plain, gated)


@pytest.mark.parametrize("block", [1, 8, 64])
def test_many_rates_in_one_recursion_are_as_many_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "LEAF", 3)
    rates = torch.tensor([0.01, 0.1, 0.5])
    given = list(streaming.sgd(FEATURES, LABELS, START, rates, at=[5, 20], block=block))
    assert [stop for stop, _ in given] == [5, 20, N]
    for place, rate in enumerate(rates.double().tolist()):
        every = slow_heads.head_sgd(FEATURES, LABELS, *START, rate, all_steps=True)
        for stop, head in given:
            close(LinearHead(head.weight[place], head.bias[place]), every[stop - 1])


@pytest.mark.parametrize("run", [streaming.sgd, partial(streaming.adam)])
def test_orders_may_differ_beside_rates(run: object) -> None:
    orders = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    rates = torch.tensor([0.05, 0.2])
    ((_, head),) = run(FEATURES[orders], LABELS[orders], START, rates)  # type: ignore[operator]
    one = slow_heads.head_sgd if run is streaming.sgd else slow_heads.head_adam
    for i, order in enumerate(orders):
        close(
            LinearHead(head.weight[i], head.bias[i]),
            one(FEATURES[order], LABELS[order], *START, float(rates.double()[i])),
        )


def test_adam_is_that_of_torch() -> None:
    rates = torch.tensor([1e-3, 1e-2], dtype=torch.float64)
    given = list(streaming.adam(FEATURES, LABELS, START, rates, at=[10]))
    assert [stop for stop, _ in given] == [10, N]
    for place, rate in enumerate(rates.tolist()):
        every = slow_heads.head_adam(FEATURES, LABELS, *START, rate, all_steps=True)
        for stop, head in given:
            close(LinearHead(head.weight[place], head.bias[place]), every[stop - 1])


@pytest.mark.parametrize("count", [3, N])
def test_ridge_in_either_form(count: int) -> None:
    close(
        ridge(FEATURES[:count], LABELS[:count], C, 0.5), slow_heads.ridge_head(FEATURES[:count], LABELS[:count], C, 0.5)
    )


def test_class_means() -> None:
    found = class_means(FEATURES, LABELS, C)
    close(found, slow_heads.class_means_head(FEATURES, LABELS, C))
    assert float(found.bias[C - 1]) == -torch.inf


@pytest.mark.parametrize("block", [1, 7, 100])
def test_discriminant_analysis_one_sample_at_a_time(block: int) -> None:
    lda = StreamingLDA(D, C, shrink=0.01)
    lda.learn(FEATURES[:20], LABELS[:20], block=block)
    lda.learn(FEATURES[20:], LABELS[20:], block=block)
    close(lda.head(), slow_heads.streaming_lda(FEATURES, LABELS, C, eps=0.01))


def scaled(fast: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return x * fast["w"]


@pytest.mark.parametrize("order", [1, 2])
def test_a_rate_that_is_learned(order: int) -> None:
    """Its gradient is that of the loop, by every form."""
    images, labels = FEATURES[:9], LABELS[:9]
    fast = {"weight": START.weight, "bias": START.bias}

    def loss(fast: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(batch[0] @ fast["weight"].T + fast["bias"], batch[1])

    rates = [torch.tensor(0.3, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    each = SGD(dict.fromkeys(fast, rates[1]))
    alone = online_head(lambda x: x, START, images, labels, 4, rates[2], order=order)
    looped = (
        online(loss, fast, (images[:4], labels[:4]), (images, labels), r, order=order) for r in (SGD(rates[0]), each)
    )
    values = [*looped, alone]
    for value, rate in zip(values, rates, strict=False):
        assert torch.allclose(value, values[0], rtol=1e-12)
        value.backward()  # type: ignore[no-untyped-call]
        assert rate.grad is not None
        assert torch.allclose(rate.grad, rates[0].grad, rtol=1e-9)  # type: ignore[arg-type]


def test_mistakes() -> None:
    ones = {"w": torch.ones(D, dtype=torch.float64)}
    with pytest.raises(RefusedError, match=r"\(5, 6\) and \(37, 5\)"):
        dual.errors(FEATURES[:, 1:], LABELS, START, 0.1)
    with pytest.raises(RefusedError, match=r"0\.\.7 for 5 outputs"):
        dual.errors(FEATURES[:2], torch.tensor([0, 7]), START, 0.1)
    with pytest.raises(RefusedError, match="got 9 of 4"):
        online_head(lambda x: x, START, FEATURES[:4], LABELS[:4], 9, 0.1, order=2)
    for steps, got in ((5, "got 5 of 4"), (4, r"0\.\.7 for 5 outputs")):
        with pytest.raises(RefusedError, match=got):
            online_dual(scaled, ones, START, FEATURES[:4], torch.tensor([0, 1, 2, 7]), steps, 0.1, order=2)
    with pytest.raises(RefusedError, match="take online_head"):
        online_dual(scaled, {}, START, FEATURES[:4], LABELS[:4], 4, 0.1, order=2)
    spoilt = FEATURES[:4].index_fill(0, torch.tensor(2), torch.nan)
    with pytest.raises(RefusedError, match=r"finite; got nan at step 2 with rate 0\.1"):
        online_dual(scaled, ones, START, spoilt, LABELS[:4], 4, 0.1, order=2)
    with pytest.raises(RefusedError, match=r"shrink must be in \(0, 1\]; got 0"):
        StreamingLDA(D, C, shrink=0)


@pytest.mark.parametrize("used", [1, 3])
def test_a_shared_weight_is_a_weight(used: int) -> None:
    """Products, and the gradients of all that enters them, of one weight that several of them share."""
    x, y = (draw(used, 2, size, seed=size).requires_grad_() for size in (D, C))
    values, gradients_of = [], []
    for shared in (True, False):
        weight = START.weight.clone().requires_grad_()
        known = SharedWeight(weight)
        total = weight.new_zeros(())
        for a, b in zip(x, y, strict=True):
            rows, columns = (known.rows(a), known.columns(b)) if shared else (a @ weight.T, b @ weight)
            total = total + (rows * b).tanh().sum() + (columns * a).sin().sum()
        values.append(total)
        taken = [torch.autograd.grad(total, [weight, x, y], retain_graph=True) for _ in range(2)]
        assert all(map(torch.equal, *taken))  # a second time over the same graph
        gradients_of.append(taken[0])
    assert torch.allclose(values[0], values[1], rtol=1e-12)
    for found, expected in zip(*gradients_of, strict=True):
        assert torch.allclose(found, expected, rtol=1e-10)
