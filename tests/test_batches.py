"""Outputs of any form survive a split; what cannot be put together is refused. Threads, checkpoints and dtypes."""

import sys
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neuromod import (
    Affine,
    Bernoulli,
    Generated,
    Head,
    Hypernet,
    Kind,
    LowRankDelta,
    Modulated,
    Modulator,
    Rank1,
    Table,
    Target,
    Threshold,
)
from tests.refusals import refuses
from tests.traps.common import close, draw, filled, moved

X, IDS = draw(6, 4), [0, 1, 1, 0, 1, 0]


class Pair(NamedTuple):
    y: Tensor
    rest: Any


@dataclass
class Holder:
    y: Tensor
    rest: Any


class Cache:
    """Keys and values by layer, as language models put them out."""

    def __init__(self, *layers: Tensor) -> None:
        self.layers = [{"keys": layer, "count": 1} for layer in layers]


class Puts(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.layer, self.wrap = nn.Linear(4, 3), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.layer(x))


FORMS: dict[str, tuple[Any, Any]] = {
    "none": (lambda y: (y, None), lambda o: o[0]),
    "number": (lambda y: (y, 0.5), lambda o: o[0]),
    "list": (lambda y: [None, [y]], lambda o: o[1][0]),
    "dict": (lambda y: {"y": y, "n": "text"}, lambda o: o["y"]),
    "named tuple": (lambda y: Pair(y, None), lambda o: o.y),
    "dataclass": (lambda y: Holder(y, (None, y.mean(-1))), lambda o: o.y),
    "cache": (lambda y: (y, Cache(y, 2 * y)), lambda o: o[1].layers[1]["keys"] / 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_of_any_form_survive_a_split(form: str) -> None:
    wrap, read = FORMS[form]
    net = filled(Puts(wrap))
    target = Target(net, X)
    model = moved(Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0))).eval()
    mixed = model(X, task=IDS)
    assert type(mixed) is type(net(X))
    weights = [model.edits(task=t)["layer.weight"] for t in (0, 1)]
    by_hand = torch.stack([weights[t] @ x + net.layer.bias for x, t in zip(X, IDS, strict=True)])
    close(read(mixed), by_hand)
    if form == "number":
        assert mixed[1] == 0.5


class Ragged(nn.Module):
    """Frames as many as the longest sample of the batch has."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(4, 3), last

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        h = self.layer(x[:, : int(n.max())])
        return h.sum(-1) if self.last else h


@pytest.mark.parametrize("last", [True, False])
def test_ragged_outputs_are_refused_and_never_padded(last: bool) -> None:
    x, n = draw(6, 5, 4), torch.tensor([5, 3, 2, 4, 1, 3])
    target = Target(filled(Ragged(last)), (x, n))
    model = Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0))
    assert model(x, n, task=0).shape[1] == 5
    with refuses("outputs of one shape", "pad the inputs to one length"):
        model(x, n, task=IDS)


def test_only_heads_are_padded() -> None:
    net = filled(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    target = Target(net, X)
    head = Modulator(Head(), Table(1), target.head(), seed=0)
    model = Modulated(target, head)
    head.add(1, width=5)
    mixed = model(X, task=IDS)
    assert mixed.shape == (6, 5)
    assert [bool(row.isinf().any()) for row in mixed] == [t == 0 for t in IDS]


def test_what_differs_between_tasks_beside_tensors() -> None:
    target = Target(filled(Puts(lambda y: (y, float(y.sum())))), X)
    model = Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0))
    with refuses("output 1 is a float that differs between tasks"):
        model(X, task=IDS)
    mean = Target(filled(Puts(lambda y: (y, y.mean()))), X)
    model = Modulated(mean, Modulator(Threshold(), Table(2), mean.weights("*"), seed=0))
    with refuses("those of output 1 are not"):
        model(X, task=IDS)


def test_threads_run_on_modules_of_their_own() -> None:
    before = sys.getswitchinterval()
    net, x = nn.Sequential(*[nn.Linear(16, 16) for _ in range(4)], nn.LayerNorm(16)).double(), draw(8, 16)
    target = Target(net, x)
    parts = (
        Modulator(Threshold(), Table(2), target.weights("*"), seed=0),
        Modulator(Affine(), Table(2), target.norms(), seed=0),
    )
    model = moved(Modulated(target, *parts)).eval()
    want, off, errors = [model(x, task=t).detach() for t in (0, 1)], list[float](), list[Exception]()

    def work(task: int) -> None:
        try:
            for _ in range(60):
                with torch.no_grad():
                    off.append(float((model(x, task=task) - want[task]).abs().max()))
        except Exception as error:  # a thread's error is none of the test's, unless it is told
            errors.append(error)

    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(t % 2,)) for t in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not errors
    assert len(off) == 240
    assert max(off) < 1e-12


class Segments(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.a, self.n, self.b, self.reentrant = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3), reentrant

    def tail(self, h: Tensor) -> Tensor:
        return self.b(torch.relu(self.n(h)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.tail(h) if self.reentrant is None else checkpoint(self.tail, h, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_checkpointed_segment_is_recomputed_with_its_edits(reentrant: bool, sealed: bool) -> None:
    grads = {}
    net = filled(Segments(None))
    for how in (None, reentrant):
        net.reentrant = how
        target = Target(net, X)
        assert target.probe.fresh == (how is not None)
        parts = (
            Modulator(Threshold(), Table(2), target.weights("b.weight"), seed=0),
            Modulator(Affine(), Hypernet("input", hidden=4), target.outputs("a"), seed=0),
            Modulator(Affine(), Table(2), target.outputs("n"), seed=1),
        )
        model = moved(Modulated(target, *parts))
        if sealed:
            model.seal(1)
        model(X, task=1).square().sum().backward()
        grads[how] = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    close(grads[reentrant], grads[None])


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_around_the_model_needs_a_draw(reentrant: bool) -> None:
    target = Target(filled(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))), X)
    model = moved(Modulated(target, Modulator(Bernoulli(), Table(2), target.weights("*"), seed=0))).train()
    x = X.clone().requires_grad_()
    model(x, task=0, draw=7).square().sum().backward()
    plain = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    checkpoint(lambda x: model(x, task=0, draw=7), x, use_reentrant=reentrant).square().sum().backward()
    close(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), plain)
    with refuses("recomputed in the backward", "pass draw=step"):
        checkpoint(lambda x: model(x, task=0), x, use_reentrant=reentrant).square().sum().backward()


class TwoDtypes(nn.Module):
    def __init__(self, first: torch.dtype, second: torch.dtype) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)
        self.a.to(first)
        self.norm.to(first)
        self.b.to(second)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.norm(self.a(x.to(self.a.weight.dtype)))).to(self.b.weight.dtype))


F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize("kind", [LowRankDelta(2), Rank1(), Threshold(), Generated()], ids=repr)
@pytest.mark.parametrize("dtypes", [(F32, BF16), (BF16, F32), (BF16, BF16), (F16, F16)], ids=str)
@pytest.mark.parametrize("own", [None, F32])
def test_networks_of_any_precision(kind: Kind, dtypes: tuple[Any, Any], own: torch.dtype | None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TwoDtypes(*dtypes)
    x, ids = X.float(), torch.tensor(IDS)
    target = Target(net, x)
    parts = (
        Modulator(kind, Table(2), target.weights("*"), seed=0, dtype=own),
        Modulator(Affine(), Table(2), target.norms(), seed=0, dtype=own),
    )
    model = Modulated(target, *parts)
    wanted = own or dtypes[0]
    assert {p.dtype for p in model.parameters()} == {wanted}
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).to(p)
    mixed = model(x, task=ids)
    assert mixed.dtype == dtypes[1]
    alone = torch.cat([model(x[i : i + 1], task=t) for i, t in enumerate(IDS)])
    close(mixed.double(), alone.double(), 0.05)
    mixed.float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    before = model(x, task=0)
    model.seal(0)
    close(model(x, task=0).double(), before.double(), 0.02)


@pytest.mark.parametrize("module", [nn.LSTM, nn.GRU, nn.RNN])
def test_vmap_over_a_recurrent_network(module: type[nn.Module]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = module(4, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0].mean(1))

    target = Target(Net(), torch.randn(6, 5, 4))
    with refuses("torch.vmap can't run it", "drop vmap=True"):
        Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0), vmap=True)


def test_a_keyword_that_no_call_takes() -> None:
    target = Target(filled(nn.Linear(4, 3)), X)
    model = Modulated(target, Modulator(Threshold(), Table(2), target.weights("*"), seed=0))
    with refuses("by position", "got x="):
        model(x=X, task=0)
