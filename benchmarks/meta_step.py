"""One outer step of ANML at its real size, against the loops of the field; float32, one thread.

28x28 images, 256 and 112 channels, 1,000 outputs, 20 inner steps of one image, 84 outer images. ``public`` is the form of the
public code: inner gradients of all parameters, norms and outer images one by one. ``textbook`` takes the outer images in one
call. All give the same gradients, which is checked in float64 before anything is timed. ``--peers`` needs the extra of that name.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from benchmarks.machine import conditions
from benchmarks.meta_peers import PEERS, memory, there
from benchmarks.timing import Bar, Report, interleave
from neuromod import Recipe
from neuromod.meta import Functional, online_dual, online_head
from neuromod.seeds import generator
from tasks.meta.networks import ANML

STEPS, OUTER, RATE = 20, 84, 0.1


def run(*, quick: bool = False, peers: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns, ``peers`` measures other libraries and nothing else."""
    fixed = conditions()
    turns = 3 if quick else 9
    if peers:
        return Report("meta_step --peers", tuple(_peers(turns)), fixed)
    worst = max(_difference(order) for order in (1, 2))
    bars = [Bar("largest relative difference of a gradient, float64", worst, 1e-9)]
    for order, looped, batched in ((2, 5.0, 1.3), (1, 1.9, 1.15)):
        bars += _orders(order, looped, batched, turns)
    bars += _head(3 * turns)
    bars += _frozen(turns)
    bars += _steps(2 * turns)
    return Report("meta_step", tuple(bars), fixed)


def network(dtype: torch.dtype = torch.float32, width: int = 256, gate_width: int = 112, outputs: int = 1000) -> ANML:
    """The same network every time."""
    told = {"shape": (1, 28, 28), "outputs": outputs, "width": width, "gate_width": gate_width}
    net = Recipe(ANML, told, init="kaiming_normal").build()
    assert isinstance(net, ANML)
    return net.to(dtype)


def batch(dtype: torch.dtype = torch.float32, steps: int = STEPS, outputs: int = 1000) -> tuple[Tensor, Tensor]:
    """Outer images and labels; the first ``steps`` are the trajectory, all of one class."""
    x = torch.randn(OUTER, 1, 28, 28, generator=generator(0, "images"), dtype=dtype)
    y = torch.randint(outputs, (OUTER,), generator=generator(0, "labels"))
    y[:steps] = 3
    return x, y


# ---- the loops -----------------------------------------------------------------------------------------------------


def ours(net: ANML, x: Tensor, y: Tensor, order: int, steps: int = STEPS) -> Tensor:
    """Gates of all images in one call, inner gradients of what is fast alone, the head in dual form."""
    declared, gates = Functional(net.pn, "*"), net.gates(x)

    def encode(fast: Mapping[str, Tensor], batch: Any) -> Any:
        images, gate = batch
        return declared(fast, images) * gate

    return online_dual(encode, declared.start(), net.classifier(), (x, gates), y, steps, RATE, order=order)


def textbook(
    net: ANML, x: Tensor, y: Tensor, order: int, *, looped: bool = False, cut: bool = True, steps: int = STEPS
) -> Tensor:  # reason: every part of the textbook loop by itself
    """Inner gradients of all parameters; with ``looped`` the outer images one by one.

    ``cut`` takes a view of every tensor at every step. Without it, as in public code, the gradient of a tensor that is not moved
    goes on through all steps before this one: the same numbers, several times slower at second order.
    """
    tensors: dict[str, Tensor] = dict(net.named_parameters())
    for i in range(steps):
        if cut:
            tensors = {n: t.view_as(t) for n, t in tensors.items()}
        value = cross_entropy(functional_call(net, tensors, (x[i : i + 1],)), y[i : i + 1])
        taken = torch.autograd.grad(value, list(tensors.values()), create_graph=order == 2)
        moved = (n for n in tensors if not n.startswith("nm"))
        found = dict(zip(tensors, taken, strict=True))
        tensors = tensors | {n: tensors[n] - RATE * found[n] for n in moved}
    parts = x.split(1) if looped else [x]
    return cross_entropy(torch.cat([functional_call(net, tensors, (part,)) for part in parts]), y)


def head_loop(net: ANML, x: Tensor, y: Tensor, *, cached: Tensor | None = None, gate: Tensor | None = None) -> Tensor:
    """The head alone, unrolled at second order; features encoded once, or taken from ``cached`` and gated."""
    features = net.encode(x) if cached is None or gate is None else cached * gate
    w, b = net.classifier()
    for i in range(STEPS):
        value = cross_entropy(torch.nn.functional.linear(features[i : i + 1], w, b), y[i : i + 1])
        dw, db = torch.autograd.grad(value, [w, b], create_graph=True)
        w, b = w - RATE * dw, b - RATE * db
    return cross_entropy(torch.nn.functional.linear(features, w, b), y)


def frozen_textbook(net: ANML, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """The textbook loop over a frozen encoder: it is run for every image of every step."""
    w, b = net.classifier()
    with torch.no_grad():
        outer = net.pn(x)
    for i in range(STEPS):
        with torch.no_grad():
            feature = net.pn(x[i : i + 1])
        value = cross_entropy(torch.nn.functional.linear(feature * gate, w, b), y[i : i + 1])
        dw, db = torch.autograd.grad(value, [w, b], create_graph=True)
        w, b = w - RATE * dw, b - RATE * db
    return cross_entropy(torch.nn.functional.linear(outer * gate, w, b), y)


def frozen_ours(net: ANML, cached: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """Features kept from one outer step to the next, the head in dual form."""
    return online_head(lambda f: f * gate, net.classifier(), cached, y, STEPS, RATE, order=2)


# ---- the bars ------------------------------------------------------------------------------------------------------


def _step(net: ANML, loss: Callable[[], Tensor]) -> Callable[[], None]:
    def once() -> None:
        net.zero_grad(set_to_none=True)
        loss().backward()

    return once


def _difference(order: int) -> float:
    """Between all forms, on a narrow network in float64, relative to the largest entry of each tensor."""
    x, y = batch(torch.float64, outputs=30)
    found = []
    for form in (ours, textbook, lambda *a: textbook(*a, looped=True), lambda *a: textbook(*a, looped=True, cut=False)):
        net = network(torch.float64, 12, 8, 30)
        form(net, x, y, order).backward()
        found.append([p.grad for p in net.parameters()])
    return max(_apart(one, found[0]) for one in found[1:])


def _apart(found: list[Any], expected: list[Any]) -> float:
    largest = max(float(w.abs().max()) for w in expected)
    # A bias before a norm has no gradient but rounding: the floor is of the whole, not of itself.
    return max(
        float((g - w).abs().max()) / max(float(w.abs().max()), 1e-3 * largest)
        for g, w in zip(found, expected, strict=True)
    )


def _orders(order: int, looped: float, batched: float, turns: int) -> list[Bar]:
    net, (x, y) = network(), batch()
    samples = interleave(
        {
            "ours": _step(net, lambda: ours(net, x, y, order)),
            "textbook": _step(net, lambda: textbook(net, x, y, order)),
            "cut": _step(net, lambda: textbook(net, x, y, order, looped=True)),
            "public": _step(net, lambda: textbook(net, x, y, order, looped=True, cut=False)),
        },
        turns=turns,
    )
    return [
        samples.bar(f"order {order}: public form / ours", "public", "ours", looped, ">="),
        samples.bar(
            f"order {order}: public form, tensors that are not moved cut off at each step / ours", "cut", "ours"
        ),
        samples.bar(f"order {order}: batched textbook loop / ours", "textbook", "ours", batched, ">="),
    ]


def _head(turns: int) -> list[Bar]:
    net, (x, y) = network(), batch()
    samples = interleave(
        {
            "dual": _step(net, lambda: online_head(net.encode, net.classifier(), x, y, STEPS, RATE, order=2)),
            "unrolled": _step(net, lambda: head_loop(net, x, y)),
        },
        turns=turns,
    )
    return [samples.bar("head alone: unrolled second order / dual form", "unrolled", "dual", 1.25, ">=")]


def _frozen(turns: int) -> list[Bar]:
    net, (x, y) = network(), batch()
    gate = torch.full((net.head.in_features,), 0.5, requires_grad=True)
    with torch.no_grad():
        cached = net.pn(x)
    samples = interleave(
        {
            "cached": _step(net, lambda: frozen_ours(net, cached, y, gate)),
            "loop": _step(net, lambda: frozen_textbook(net, x, y, gate)),
        },
        turns=turns,
    )
    return [
        samples.bar(
            "frozen target, a gate and a head learned: textbook loop / cached features", "loop", "cached", 20, ">="
        )
    ]


def _steps(turns: int) -> list[Bar]:
    """Time of an inner step, the outer step without any taken off."""
    net = network()
    counts = {steps: batch(steps=steps) for steps in (0, 5, 20)}
    samples = interleave(
        {str(k): _step(net, lambda k=k, x=x, y=y: ours(net, x, y, 2, k)) for k, (x, y) in counts.items()},  # type: ignore[misc]
        turns=turns,
    )
    none = samples.seconds["0"]
    each = {k: [(t - z) / int(k) for t, z in zip(samples.seconds[k], none, strict=True)] for k in ("5", "20")}
    made = type(samples)(each)
    return [made.bar("time of an inner step, K = 20 / K = 5", "20", "5", 1.2)]


FORMS: dict[str, Callable[[ANML, Tensor, Tensor, int], Tensor]] = {
    "ours": ours,
    **{name: lambda net, x, y, order, f=form: f(net, x, y, order, STEPS, RATE) for name, form in PEERS.items()},  # type: ignore[misc]
}


def _peers(turns: int) -> list[Bar]:
    found = list(there())
    if not found:
        raise SystemExit("--peers needs higher or torchopt; neither is installed; pip install 'neuromod[peers]'")
    x, y = batch(torch.float64, outputs=30)
    worst = []
    for name in found:
        pair = []
        for form in (ours, FORMS[name]):
            net = network(torch.float64, 12, 8, 30)
            form(net, x, y, 2).backward()
            pair.append([p.grad for p in net.parameters()])
        worst.append(Bar(f"{name}: largest relative difference of a gradient, float64", _apart(pair[1], pair[0]), 1e-9))
    net, (x, y) = network(), batch()
    bars = []
    for order in (2, 1):
        calls = {n: _step(net, lambda n=n: FORMS[n](net, x, y, order)) for n in ("ours", *found)}  # type: ignore[misc]  # noqa: B023
        samples = interleave(calls, turns=turns)
        fastest = min(found, key=samples.median)
        bars.append(samples.bar(f"order {order}: ours / {fastest}, the faster peer", "ours", fastest, 1.05))
    used = {name: memory(name) for name in ("ours", *found)}
    least = min(found, key=lambda name: used[name])
    return [
        *worst,
        *bars,
        Bar(f"order 2: memory of a step / {least}'s, the leaner peer's", used["ours"] / used[least], 1.0),
    ]
