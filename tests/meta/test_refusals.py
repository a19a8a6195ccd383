"""A user's mistake gets one line; none of these gives a number."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neuromod import RefusedError
from neuromod.meta import (
    SGD,
    Episodes,
    Functional,
    InstanceNorm,
    LinearHead,
    StreamingLDA,
    class_means,
    cnaps,
    dual,
    exact,
    maml,
    online_head,
    ridge,
    sequential,
)
from neuromod.meta.inner import check_order
from tests.meta.nets import draw, mlp

N, D, C = 20, 6, 5
F, Y = draw(N, D, seed=1), torch.arange(N) % C
HEAD = LinearHead(draw(C, D, seed=3), draw(C, seed=4))
ONE = torch.ones(1, dtype=torch.float64)


def learned(name: str, **given: Any) -> list[Any]:
    told: dict[str, Any] = {"features": F, "labels": Y, "head": HEAD, "rates": ONE} | given
    return list(getattr(sequential, name)(**told))


HEADS: dict[str, tuple[dict[str, Any], str]] = {
    "a number of samples that is none": ({"at": [2.5]}, r"whole numbers; got \[2\.5\]"),
    "a number beyond the samples": ({"at": [50]}, r"1\.\.20 samples; got \[50\]"),
    "no samples": ({"features": F[:0], "labels": Y[:0]}, r"1\.\.0 samples; got \[0\]"),
    "labels in a column": ({"labels": Y[:, None]}, r"\(20, 1\) for \(20, 6\)"),
    "fewer labels": ({"labels": Y[:9]}, r"\(9,\) for \(20, 6\)"),
    "a negative label": ({"labels": Y - 1}, r"-1\.\.3 for 5 outputs"),
    "a rate that is no row": ({"rates": torch.tensor(0.1)}, r"\(20, 6\) and \(\)"),
    "more orders than rates": (
        {"features": F.expand(2, -1, -1), "labels": Y.expand(2, -1)},
        r"\(2, 20, 6\) and \(1,\)",
    ),
    "a head of another dtype": (
        {"head": LinearHead(*(t.float() for t in HEAD))},
        r"float32 for \(5, 6\) of torch\.float64",
    ),
    "a narrow head": ({"head": LinearHead(HEAD.weight[:, :4], HEAD.bias)}, r"got \(5, 4\)"),
}


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize(("given", "words"), HEADS.values(), ids=HEADS)
def test_heads_side_by_side(name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        learned(name, **given)


def test_numbers_of_samples_may_be_a_tensor() -> None:
    for name in ("sgd", "adam"):
        assert [stop for stop, _ in learned(name, at=torch.tensor([5, N]))] == [5, N]


def test_a_block_holds_a_sample() -> None:
    with pytest.raises(RefusedError, match="1 or more; got 0"):
        learned("sgd", block=0)


@pytest.mark.parametrize("order", [0, 3, None, "1", True, False])
def test_an_order_is_1_or_2(order: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: check_order(order),
        lambda: online_head(lambda x: x, HEAD, F, Y, 4, 0.1, order=order),
        lambda: dual.errors(F, Y, HEAD, 0.1, order=order),
        lambda: dual.outputs(F, F, F, HEAD, 0.1, order=order),
    ]
    for made in calls:
        with pytest.raises(RefusedError, match=f"must be 1 or 2; got {order!r}"):
            made()


@pytest.mark.parametrize(
    "made", [lambda f, y: ridge(f, y, C), lambda f, y: class_means(f, y, C), StreamingLDA(D, C).learn]
)
def test_computed_heads(made: Any) -> None:
    for f, y, words in (
        (F, Y[:9], r"\(9,\) for \(20, 6\)"),
        (F[:0], Y[:0], r"one at least; got \(0, 6\)"),
        (F, Y - 1, r"-1\.\.3 for 5 outputs"),
        (F, Y + 1, r"1\.\.5 for 5 outputs"),
    ):
        with pytest.raises(RefusedError, match=words):
            made(f, y)


def test_a_discriminant_analysis_of_nothing() -> None:
    lda = StreamingLDA(D, C)
    with pytest.raises(RefusedError, match="call learn"):
        lda.head()
    with pytest.raises(RefusedError, match="for 5 outputs"):
        lda.learn(F, Y + 1)
    assert lda.seen == int(lda.counts.sum()) == 0


def test_no_graph_grows_in_a_discriminant_analysis() -> None:
    lda = StreamingLDA(D, C)
    lda.learn(F.clone().requires_grad_(), Y)
    assert not lda.sigma.requires_grad


def test_tasks_are_told_apart() -> None:
    declared = Functional(mlp(), "*")

    def asked(support: int, query: int, engine: Any = "autograd") -> Any:
        parts = ((draw(n, 4, 4), torch.zeros(n, 4, dtype=torch.long)) for n in (support, query))
        loss = lambda fast, batch: cross_entropy(declared(fast, batch[0]), batch[1])  # noqa: E731
        return maml(loss, declared.start(), Episodes(*parts), SGD(0.1), order=1, engine=engine)

    for engine in ("autograd", "func"):
        with pytest.raises(RefusedError, match=r"the same tasks.*got \[2, 3\]"):
            asked(2, 3, engine)
        with pytest.raises(RefusedError, match=r"one at least.*got \[0\]"):
            asked(0, 0, engine)
    with torch.no_grad(), pytest.raises(RefusedError, match=r"got torch\.no_grad\(\)"):
        asked(2, 2)
    with torch.no_grad():
        assert asked(2, 2, "func").shape == (2,)
    labels = torch.arange(2).expand(2, 2)
    with pytest.raises(RefusedError, match=r"got \[1, 2\]"):
        cnaps(lambda x, **_: x, Episodes((draw(2, 2, 3), labels), (draw(1, 2, 3), labels)), 2)


def test_a_fast_set_of_nothing_and_a_fast_tensor_of_another_shape() -> None:
    declared = Functional(mlp(), "4.*")
    with pytest.raises(RefusedError, match="got none; name what is fast"):
        maml(lambda fast, batch: batch.sum(), {}, Episodes(F[None], F[None]), SGD(0.1), order=1)
    with pytest.raises(RefusedError, match=r"'4\.bias' of \(1,\) for \(3,\)"):
        declared(declared.start() | {"4.bias": ONE}, draw(2, 4))


@pytest.mark.parametrize("rate", [torch.ones(5, 1), torch.ones(3)])
def test_a_learned_rate_fits_what_it_moves(rate: torch.Tensor) -> None:
    with pytest.raises(RefusedError, match="a number or as large as what it moves; 'w' has"):
        SGD({"w": rate}).start({"w": torch.ones(3, dtype=torch.float64)})


class Residual(nn.LayerNorm):
    """A norm that does more."""


def hooked() -> nn.Module:
    norm = nn.LayerNorm(4)
    norm.register_forward_hook(lambda *_: None)
    return norm


@pytest.mark.parametrize("norm", [Residual(4), hooked(), nn.InstanceNorm1d(4, track_running_stats=True).eval()])
def test_a_norm_that_does_more_is_not_replaced(norm: nn.Module) -> None:
    with pytest.raises(RefusedError, match=f"got 1, a {type(norm).__name__} with .*by hand"):
        exact(nn.Sequential(nn.Linear(4, 4), norm))


def test_an_instance_norm_reads_a_batch() -> None:
    with pytest.raises(RefusedError, match=r"got \(3, 4\); unsqueeze it"):
        InstanceNorm(3)(torch.ones(3, 4))
