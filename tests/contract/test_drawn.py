"""Whatever the network does inside: a mixed batch is what the slow reference says, and the network stays as it was.

The reference (`tests/reference.py`) applies each sample's modulation by hand to a fresh copy of the network, one sample at a
time, or one task at a time where samples meet inside the network.
"""

import copy
import random
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Gate,
    Generated,
    Head,
    LowRankDelta,
    Modulated,
    Modulator,
    Rank1,
    RefusedError,
    Subset,
    Table,
    Target,
    Threshold,
    TopK,
    bake,
)
from neuromod.target.structure import tensors
from tests import reference
from tests.contract import slow
from tests.contract.drawn import BLOCKS, OUTPUTS, SIZE, Checkpointed, Drawn

TASKS = 3
WEIGHTS = (Threshold(), TopK(0.7), LowRankDelta(2), Rank1(), Generated(), Subset())
# What a call may refuse of these networks, each with its reason: anything else is an error here.
REFUSED = (
    "receives no gradient",
    "channel axis of",
    "a module called several times",
    "a pattern must match",
)


def first(output: Any) -> Tensor:
    return next(iter(tensors(output).values()))


def close(a: Tensor, b: Tensor, rtol: float) -> None:
    assert a.shape == b.shape
    scale = max(float(b.detach().abs().max()), 1e-3)
    assert float((a - b).detach().abs().max()) <= rtol * scale


def drawn_network(rng: random.Random) -> tuple[nn.Module, list[str]]:
    blocks = rng.choices(list(BLOCKS), k=rng.randint(1, 3))
    writes = rng.random() < 0.15
    net = Drawn(blocks, rng.choice(list(OUTPUTS)), writes).double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.5 * torch.randn(p.shape, dtype=torch.float64).to(p)
    return net, blocks


def drawn_modulators(target: Target, rng: random.Random) -> list[Modulator]:
    """One or two modulators at some of the sites that there are."""
    weights = target.weights("*", exclude="head*", unused="skip")
    outputs = [n for n in target.probe.calls if n.endswith(("layer", "norm", "act", "into", "block", "rnn"))]
    chosen = []
    if rng.random() < 0.6:
        sites = target.outputs(*rng.sample(outputs, min(len(outputs), rng.randint(1, 3))), unused="skip", channel=-1)
        chosen.append(Modulator(rng.choice([Affine(), Gate("doubled")]), Table(TASKS), sites, seed=0))
    if rng.random() < 0.3:
        chosen.append(Modulator(Head(), Table(TASKS), target.head(), seed=0))
    if rng.random() < 0.6 or not chosen:
        sites = tuple(rng.sample(weights, rng.randint(1, len(weights))))
        chosen.append(Modulator(rng.choice(WEIGHTS), Table(TASKS), sites, seed=1))
    return chosen


def by_hand(model: Modulated, x: Tensor, ids: list[int]) -> Tensor:
    """The first tensor of the output, sample by sample, or task by task where samples meet."""
    together = model.target.probe.meets is not None
    groups = (
        [[i for i, t in enumerate(ids) if t == task] for task in dict.fromkeys(ids)]
        if together
        else [[i] for i in range(len(ids))]
    )
    found: dict[int, Tensor] = {}
    net, own = plain(model.target.pristine), model.target.tensors()
    for group in groups:
        weights, taps, buffers = slow.row_of(model, model.context((x[group],), ids[group[0]]), None)
        dtypes = called(net, x[group])
        placed: dict[str, list[reference.Tap]] = {}
        for name in sorted(taps, key=len, reverse=True):
            # What a block wraps into a structure is what its activation puts out.
            at = f"{name}.act" if name.endswith("block") else name
            placed.setdefault(at, []).extend(_in(tap, dtypes.get(at, x.dtype)) for tap in taps[name])
        cast = {name: value.to(own[name].dtype) for name, value in weights.items()}
        found |= dict(zip(group, first(_run(net, cast, placed, buffers, x[group])), strict=True))
    return torch.stack([found[i] for i in range(len(ids))])


def _run(net: nn.Module, weights: Any, taps: dict[str, Any], buffers: Any, x: Tensor) -> Any:
    """The reference's forward; a tap on an expert that these samples do not reach is left out."""
    try:
        return reference.run_single(net, weights, {k: v for k, v in taps.items() if v}, buffers, x.clone())
    except ValueError as error:
        idle = re.findall(r"'(blocks[.\w]*(?:one|two)[.\w]*)'", str(error))
        if not idle:
            raise
        return _run(net, weights, {k: v for k, v in taps.items() if k not in idle}, buffers, x)


def _in(tap: reference.Tap, dtype: torch.dtype) -> reference.Tap:
    gain, bias, channel = tap
    return (None if gain is None else gain.to(dtype), None if bias is None else bias.to(dtype), channel)


def plain(net: nn.Module) -> nn.Module:
    """A copy without checkpoints, whose recomputation would meet weights that the reference has put back."""
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if isinstance(module, Checkpointed):
            module.reentrant = None
    return twin


def called(net: nn.Module, x: Tensor) -> dict[str, torch.dtype]:
    """The dtype of what each module puts out."""
    twin, found = copy.deepcopy(net), dict[str, torch.dtype]()

    def note(module: nn.Module, args: Any, output: Any, *, name: str) -> None:
        found[name] = first(output).dtype

    for name, module in twin.named_modules():
        module.register_forward_hook(partial(note, name=name))
    with torch.no_grad():
        twin(x.clone())
    return found


def state(net: nn.Module) -> tuple[list[bytes], list[bool]]:
    held = [t.detach().numpy().tobytes() for t in (*net.parameters(), *net.buffers())]
    return held, [m.training for m in net.modules()]


pytestmark = pytest.mark.filterwarnings(
    "ignore:None of the inputs have requires_grad", "ignore:baked for one place alone"
)


def one_example(seed: int) -> str:
    """Draw a network, modulators and tasks, and hold the laws; "held" or the refusal."""
    rng = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net, blocks = drawn_network(rng)
        x = torch.randn(SIZE, SIZE, 3, dtype=torch.float64)
        ids = [rng.randrange(TASKS) for _ in range(SIZE)]
        # float32 inside ("narrow") rounds otherwise in another batch.
        rtol = 1e-4 if "narrow" in blocks else 1e-9
        before, generator = state(net), torch.get_rng_state()
        numbers = random.getstate()
        try:
            target = Target(net, x)
            model = Modulated(target, *drawn_modulators(target, rng))
        except RefusedError as error:
            if "\n" in str(error) or not any(part in str(error) for part in REFUSED):
                raise
            return str(error)
        with torch.no_grad():
            for p in model.parameters():
                p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(seed), dtype=p.dtype)
        model.eval()
        mixed, truth = first(model(x.clone(), task=ids)), by_hand(model, x, ids)
        close(mixed, truth, rtol)
        _gradients(model, mixed, truth, max(rtol, 1e-8), blocks)
        order = rng.sample(range(SIZE), SIZE)
        moved = first(model(x[order].clone(), task=[ids[i] for i in order]))
        close(moved, truth[order], rtol)
        _baked_and_sealed(model, x, rtol)
        target.verify()
        assert state(net) == before
        assert torch.equal(torch.get_rng_state(), generator)
        assert random.getstate() == numbers
        return "held"


def _gradients(model: Modulated, mixed: Tensor, truth: Tensor, rtol: float, blocks: list[str]) -> None:
    if "reentrant" in blocks:  # torch's own reentrant checkpoints know no autograd.grad
        return
    weights = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(1), dtype=mixed.dtype)
    parameters = [p for p in model.parameters() if p.requires_grad]
    found, expected = (torch.autograd.grad((y * weights).sum(), parameters, allow_unused=True) for y in (mixed, truth))
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None or b is not None]
    whole = [
        torch.cat([torch.zeros(1) if g is None else g.double().flatten() for g in side])
        for side in zip(*pairs, strict=True)
    ]
    close(whole[0], whole[1], rtol)


def _baked_and_sealed(model: Modulated, x: Tensor, rtol: float) -> None:
    expected = first(model(x.clone(), task=1))
    try:
        baked = bake(model, task=1)
    except RefusedError as error:
        if not re.search("a baked network|can be baked", str(error)):
            raise
    else:
        close(first(baked(x.clone())), expected, rtol)
    model.seal(1)
    close(first(model(x.clone(), task=1)), expected, rtol)


@pytest.mark.parametrize("block", BLOCKS)
def test_identity_is_the_users_network_in_eval(block: str) -> None:
    net = Drawn([block], "tuple", writes=False).double()
    x = torch.randn(SIZE, SIZE, 3, dtype=torch.float64)
    for training in (False, True):
        target = Target(net.train(), x)
        model = Modulated(target, Modulator(Affine(), Table(2), target.outputs("into"), seed=0)).train(training)
        for _ in range(3):
            fresh = Drawn([block], "tuple", writes=False).double()
            fresh.load_state_dict(net.state_dict())
            close(model(x, task=0)[0], fresh.eval()(x)[0], 1e-12 if block != "narrow" else 1e-6)


@pytest.mark.parametrize("part", range(4))
def test_drawn_networks(part: int) -> None:
    said = [one_example(seed) for seed in range(12 * part, 12 * part + 12)]
    assert said.count("held") > len(said) // 2, said


@pytest.mark.check
@pytest.mark.parametrize("part", range(20))
def test_many_drawn_networks(part: int) -> None:
    said = [one_example(seed) for seed in range(1000 + 100 * part, 1100 + 100 * part)]
    assert said.count("held") > 60, said
