"""Which task is this image from: a query against passes of the unmasked network, and against reading the bank once.

LeNet-300-100 with 100 outputs (275,200 mask bits a task), random masks, float32, one thread. A query is one image: one
gradient at the running mean of all masks, rounded to 8 bits, and its product with every packed mask. Planes are built inside
the timing; of the bank only the packed masks and the running mean are kept.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.machine import conditions, read_seconds_per_byte
from benchmarks.timing import Bar, Report, Samples, interleave
from neuromod import Bank, Modulated, Modulator, Table, Target, Threshold
from neuromod.inference import brute_force, entropy, one_shot
from neuromod.inference.one_shot import gradients
from neuromod.kinds.bits import packed_size
from neuromod.seeds import generator

SIZES = (784, 300, 100, 100)
FEW, MANY, PLANES = 250, 2500, 8
IMAGES, TASKS = 1000, 100

Run = Callable[[], object]


def run(*, quick: bool = False) -> Report:
    """Every bar; ``quick`` takes a third of the turns."""
    fixed = conditions()
    turns = 7 if quick else 21
    bars = (*_queries(turns), *_growth(turns), *_batched(max(turns // 4, 3)))
    return Report("inference", bars, fixed)


def network() -> nn.Sequential:
    """The same network every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(SIZES)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def filled(tasks: int) -> Modulated:
    """A model with so many sealed tasks of random masks."""
    target = Target(network(), torch.zeros(2, SIZES[0]))
    masks = Modulator(Threshold(), Table(0), target.weights("*"), seed=1)
    model = Modulated(target, masks).eval()
    sizes = {f"{site.label}/bits": packed_size(site.shape[0] * site.shape[1]) for site in masks.sites}
    rng = generator(0, "masks")
    for task in range(tasks):
        row = {key: torch.randint(0, 256, (size,), generator=rng, dtype=torch.uint8) for key, size in sizes.items()}
        masks.sealed.seal(task, row)
    return model


def _queries(turns: int) -> list[Bar]:
    model, net = filled(FEW), network()
    x = torch.randn(1, SIZES[0], generator=generator(0, "image"))
    ways = {"compiled": Bank(model, path="compiled"), "plain": Bank(model, path="plain")}
    whole = torch.cat([packed_rows(model, task) for task in model.tasks()]).float()
    gradient = torch.randn(whole.shape[1], generator=generator(0, "gradient"))

    def passes() -> None:
        net.zero_grad(set_to_none=True)
        entropy(net(x)).sum().backward()

    contenders: dict[str, Run] = {"pass": passes, "mat-vec": lambda: whole @ gradient}
    contenders |= {name: _query(model, x, bank) for name, bank in ways.items()}
    contenders["brute force"] = lambda: brute_force(model, x, tasks=model.tasks())
    samples = interleave(contenders, turns=turns)
    return [
        samples.bar(f"one-shot query, k={FEW}, compiled path / forward and backward", "compiled", "pass", 18),
        samples.bar(f"one-shot query, k={FEW}, plain path / forward and backward", "plain", "pass", 60),
        samples.bar(f"brute force, k={FEW} / forward and backward", "brute force", "pass"),
        samples.bar("one-shot query, compiled path / brute force", "compiled", "brute force", 1),
        samples.bar("one-shot query, compiled path / f32 mat-vec of an unpacked bank alone", "compiled", "mat-vec"),
    ]


def packed_rows(model: Modulated, task: int) -> Tensor:
    """The mask of a task, all sites in a row (1, n)."""
    return torch.cat([(value != 0).flatten() for value in model.edits(task=task).values()]).unsqueeze(0)


def _query(model: Modulated, x: Tensor, bank: Bank) -> Run:
    return lambda: one_shot(model, x, tasks=bank.tasks, bank=bank, planes=PLANES)


def _growth(turns: int) -> list[Bar]:
    model = filled(MANY)
    x = torch.randn(1, SIZES[0], generator=generator(0, "image"))
    banks = {k: Bank(model, range(k)) for k in (FEW, MANY)}
    G = {k: _gradient(model, x, bank) for k, bank in banks.items()}
    contenders: dict[str, Run] = {f"query {k}": _query(model, x, bank) for k, bank in banks.items()}
    contenders |= {f"product {k}": lambda k=k: banks[k].project(G[k], planes=PLANES) for k in banks}  # type: ignore[misc]
    contenders |= {f"four {k}": lambda k=k: banks[k].project(G[k], planes=4) for k in banks}  # type: ignore[misc]
    contenders |= {f"exact {k}": lambda k=k: banks[k].project(G[k]) for k in banks}  # type: ignore[misc]
    samples = interleave(contenders, turns=turns)
    per_byte = read_seconds_per_byte()
    size = sum(bank.numel() for bank in (banks[MANY].bits(name) for name in G[MANY])) / MANY
    bars = [_per_bit(samples, "query", 1.5), _per_bit(samples, "product", None)]
    for name, text, limit in (
        ("product", "eight planes", 8.0),
        ("four", "four planes", None),
        ("exact", "exact sums", None),
    ):
        growing = samples.median(f"{name} {MANY}") - samples.median(f"{name} {FEW}")
        floor = (MANY - FEW) * size * per_byte
        bars.append(Bar(f"part that grows with k, {text} / reading the masks once", growing / floor, limit))
        whole = samples.median(f"{name} {MANY}") / (MANY * size * per_byte)
        bars.append(Bar(f"product with {MANY} masks, {text} / reading them once", whole))
    return bars


def _gradient(model: Modulated, x: Tensor, bank: Bank) -> dict[str, Tensor]:
    mean = bank.mean()
    return gradients(model, x.unsqueeze(0), mean, list(mean), entropy)


def _per_bit(samples: Samples, name: str, limit: float | None) -> Bar:
    few, many = samples.median(f"{name} {FEW}") / FEW, samples.median(f"{name} {MANY}") / MANY
    return Bar(f"{name}, time a mask bit at k={MANY} / at k={FEW}", many / few, limit)


def _batched(turns: int) -> list[Bar]:
    model = filled(TASKS)
    x = torch.randn(IMAGES, SIZES[0], generator=generator(0, "images"))
    n = sum(a * b for a, b in pairwise(SIZES))
    left, right = torch.randn(IMAGES, n), torch.randn(n, TASKS)
    bank = Bank(model)
    contenders: dict[str, Run] = {
        "one-shot": lambda: one_shot(model, x, tasks=bank.tasks, bank=bank),
        "product": lambda: left @ right,
        "brute force": lambda: brute_force(model, x, tasks=model.tasks()),
    }
    samples = interleave(contenders, turns=turns, warm_up=1)
    return [
        samples.bar(f"{IMAGES} images, k={TASKS}, one call / one f32 product of that size", "one-shot", "product", 1.3),
        samples.bar(f"{IMAGES} images, k={TASKS}, one call / batched brute force", "one-shot", "brute force", 1),
    ]
