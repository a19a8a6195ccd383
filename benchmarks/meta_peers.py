"""The outer step of ANML by other libraries of differentiable optimisation, the same task and the same gradients."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from benchmarks.machine import PEAK
from tasks.meta.networks import ANML

Form = Callable[[ANML, Tensor, Tensor, int, int, float], Tensor]
"""Network, outer images (the first K of them the trajectory), labels, order, K, rate: to the outer loss."""


def with_higher(net: ANML, x: Tensor, y: Tensor, order: int, steps: int, rate: float) -> Tensor:
    """`higher` (Grefenstette et al. 2019): a patched module and a differentiable SGD over what is fast."""
    import higher

    optimiser = torch.optim.SGD([*net.pn.parameters(), *net.head.parameters()], lr=rate)
    tracked = {"copy_initial_weights": False, "track_higher_grads": order == 2}
    with higher.innerloop_ctx(net, optimiser, **tracked) as (moved, differentiable):
        for i in range(steps):
            differentiable.step(cross_entropy(moved(x[i : i + 1]), y[i : i + 1]))
        return cross_entropy(moved(x), y)


def with_torchopt(net: ANML, x: Tensor, y: Tensor, order: int, steps: int, rate: float) -> Tensor:
    """`torchopt` (Ren et al. 2023): its functional SGD over what is fast."""
    import torchopt

    fast: dict[str, Tensor] = {n: p for n, p in net.named_parameters() if not n.startswith("nm")}
    optimiser: Any = torchopt.sgd(rate)
    state = optimiser.init(fast)
    for i in range(steps):
        value = cross_entropy(functional_call(net, fast, (x[i : i + 1],)), y[i : i + 1])
        taken = torch.autograd.grad(value, list(fast.values()), create_graph=order == 2)
        updates, state = optimiser.update(dict(zip(fast, taken, strict=True)), state, inplace=False)
        fast = torchopt.apply_updates(fast, updates, inplace=False)
    return cross_entropy(functional_call(net, fast, (x,)), y)


PEERS: dict[str, Form] = {"higher": with_higher, "torchopt": with_torchopt}


def there() -> dict[str, Form]:
    """The peers that are installed."""
    return {name: form for name, form in PEERS.items() if importlib.util.find_spec(name) is not None}


STEP = f"""
import sys
from benchmarks.meta_step import FORMS, batch, network
import torch
torch.set_num_threads(1)
{PEAK}
net, (x, y) = network(), batch()
net(x[:1]).sum().backward()
net.zero_grad(set_to_none=True)
reset()
before = peak()
FORMS[sys.argv[1]](net, x, y, 2).backward()
print(peak() - before)
"""


def memory(name: str) -> float:
    """Megabytes that one second-order step takes above what is there before it, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", STEP, name], check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1]) / 1e3
