"""The laws that every kind x source obeys on every network; each takes a cell and asserts."""

import copy
import io
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from neuromod import Modulated, RefusedError, Table, bake, calibrate
from neuromod.kinds.masks import Mask
from neuromod.modulator import by_site
from tests.contract import slow
from tests.contract.cells import EVEN, SIZE, TASKS, UNEVEN, Cell

GROUPINGS = {"4/4/4/4": EVEN, "13/1/1/1": UNEVEN}


def close(a: Tensor, b: Tensor, rtol: float = 1e-9) -> None:
    """Equal to ``rtol`` of the largest entry."""
    assert a.shape == b.shape
    assert torch.equal(torch.isinf(a), torch.isinf(b))
    a, b = (t.detach().nan_to_num(posinf=0, neginf=0) for t in (a, b))
    assert bool(torch.isfinite(a).all())
    assert float((a - b).abs().max()) <= rtol * max(float(b.abs().max()), 1e-3)


def ready(cell: Cell, model: Modulated) -> Modulated:
    """Measure what has to be measured."""
    for task in range(TASKS) if cell.measured else ():
        calibrate(model, task, cell.x + task)
    return model


def gradients(model: Modulated, loss: Tensor) -> dict[str, Tensor]:
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


def reads_of(cell: Cell, model: Modulated, task: int) -> dict[str, Any]:
    """What a call of one task is given, of what the model reads."""
    reads = model.reads
    return ({"task": task} if "task" in reads else {}) | (
        {"condition": cell.condition[0]} if "condition" in reads else {}
    )


def loss_of(output: Tensor) -> Tensor:
    shape = output.shape
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(output)
    return (output * weights).sum()


def identity_is_exact(cell: Cell) -> None:
    target = cell.target()
    kinds = [m.kind for m in cell.model().modulators.values()]
    sites = [m.sites[0] for m in cell.model().modulators.values()]
    now = dict(target.pristine.named_parameters()) | dict(target.pristine.named_buffers())
    if any(kind.identity(site, now) is None for kind, site in zip(kinds, sites, strict=True)):
        with pytest.raises(RefusedError, match="no identity"):
            cell.model(identity=True)
        return
    model = cell.model(identity=True, moved=False).eval()
    # A batch that is split by row runs other sizes of matrix product, and a weight tap adds the bias behind the product:
    # either may round otherwise.
    own = any(s.role == "weight" and m.reads != "task" for m in model.modulators.values() for s in m.sites)
    split = own or "Head" in str(cell.config)
    close(cell.call(model, EVEN), target(cell.x), 1e-14 if split else 0.0)
    one = model(cell.x[:1], **reads_of(cell, model, 0))
    assert torch.equal(one, target(cell.x[:1]))


@torch.no_grad()
def modulation_has_an_effect(cell: Cell) -> None:
    model = ready(cell, cell.model()).eval()
    plain, output = model.target(cell.x), cell.call(model, EVEN)
    assert float((output - plain).abs().max()) > 1e-3
    reads = model.reads
    if "task" in reads:
        swapped = cell.call(model, [(t + 1) % TASKS for t in EVEN])
        differs = (swapped - output).abs().flatten(1).amax(1) > 1e-6
        assert int(differs.sum()) > SIZE // 2


def mixed_equals_singles_equals_slow(cell: Cell) -> None:
    for ids in GROUPINGS.values():
        for training in (False, True):
            model = ready(cell, cell.model()).train(training)
            groups = [[i for i, t in enumerate(ids) if t == task] for task in range(TASKS)]
            if training and cell.measured:
                groups = [g for g in groups if len(g) > 1]  # the statistics of one sample are refused by torch
            kept = [i for group in groups for i in group]
            mixed = cell.call(model, [ids[i] for i in kept], kept)
            singles = torch.cat([cell.call(model, ids[g[0]], g) for g in groups])
            close(mixed, singles)
            mixed_grads = gradients(model, loss_of(mixed))
            for name, gradient in gradients(model, loss_of(singles)).items():
                close(mixed_grads[name], gradient)
            if training and cell.measured:
                continue
            draw = 3 if training else None
            truth = slow.outputs(model, cell.x[kept], [ids[i] for i in kept], cell.condition[kept], draw)
            close(mixed, truth)
            for name, gradient in gradients(model, loss_of(truth)).items():
                close(mixed_grads[name], gradient)


def order_is_irrelevant(cell: Cell) -> None:
    """The samples in another order put out the same rows in that order, in training too."""
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(2)).tolist()
    for training in (False, True) if not cell.measured else (False,):
        model = ready(cell, cell.model()).train(training)
        close(cell.call(model, [UNEVEN[i] for i in order], order), cell.call(model, UNEVEN)[order], 1e-12)


def training_reaches_every_parameter_and_not_the_target(cell: Cell) -> None:
    model = cell.model(moved=False).train()
    before = cell.target().fingerprint()
    plain = model.target(cell.x).clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-2)
    reached: dict[str, float] = {}
    for step in range(10):
        optimizer.zero_grad()
        loss_of(cell.call(model, EVEN)).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            assert bool(torch.isfinite(parameter.grad).all())
            if step < 3:
                reached[name] = max(reached.get(name, 0.0), float(parameter.grad.abs().max()))
        optimizer.step()
    assert min(reached.values()) > 0, min(reached, key=reached.get)  # type: ignore[arg-type]
    model.target.verify()
    assert model.target.fingerprint() == before
    assert torch.equal(model.target(cell.x), plain)


def other_tasks_stand_still(cell: Cell) -> None:
    optimizers = {
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    }
    for build in optimizers.values():
        model = cell.model().train()
        optimizer = build(model.parameters())
        for ids in (EVEN, [0] * SIZE):  # the first step gives every task momentum
            optimizer.zero_grad()
            before = {n: p.detach().clone() for n, p in model.named_parameters()}
            loss_of(cell.call(model, ids)).backward()
            optimizer.step()
        for name, parameter in model.named_parameters():
            if ".source.rows." in name and ".rows.all." not in name:
                moved = not torch.equal(before[name], parameter)
                assert moved == (".rows.0." in name), name


def sealing_changes_nothing(cell: Cell) -> None:
    model = ready(cell, cell.model()).eval()
    if not any(m.reads == "task" for m in model.modulators.values()):
        return
    before = cell.call(model, EVEN)
    for task in (2, 0):
        expected = model.bytes_per_task(task)
        model.seal(task)
        if all(isinstance(m.source, Table) for m in model.modulators.values()):
            assert model.bytes_per_task(task) == expected
    close(cell.call(model, EVEN), before, 1e-12)
    assert not any(".rows.2." in n or ".rows.0." in n for n, _ in model.named_parameters())
    again = cell.model(target=model.target).eval()
    again.load_state_dict(model.state_dict())
    close(cell.call(again, EVEN), before, 1e-12)


def baking_equals_the_model(cell: Cell) -> None:
    model = ready(cell, cell.model()).eval()
    reads = model.reads
    if reads - {"task", "condition", "nothing"}:
        with pytest.raises(RefusedError, match="depends on the input"):
            bake(model, task=1 if "task" in reads else None)
        return
    condition = cell.condition[0] if "condition" in reads else None
    baked = bake(model, task=1 if "task" in reads else None, condition=condition)
    expected = model(
        cell.x,
        **({"task": 1} if "task" in reads else {}),
        **({"condition": condition} if condition is not None else {}),
    )
    close(baked(cell.x), expected)
    assert list(baked.state_dict()) == list(cell.net.state_dict())
    assert [type(m) for m in baked.modules()] == [type(m) for m in cell.net.modules()]
    model.target.verify()


def round_trips(cell: Cell) -> None:
    model = ready(cell, cell.model()).eval()
    expected = cell.call(model, EVEN)
    twin = cell.model(moved=False, target=model.target).eval()
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(cell.call(twin, EVEN), expected)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(cell.call(copied, EVEN), expected)
    assert torch.equal(cell.call(pickle.loads(pickle.dumps(copied)), EVEN), expected)


def dtypes_and_layouts(cell: Cell) -> None:
    model = ready(cell, cell.model()).eval()
    expected = cell.call(model, EVEN)
    prints = model.target.fingerprint()
    single = model.float()
    narrow = cell.astype(torch.float32)
    output = narrow.call(single, EVEN)
    cell.net.double()
    assert output.dtype == torch.float32
    assert model.target.fingerprint() == prints
    if all(not isinstance(m.kind, Mask) or m.reads == "task" for m in model.modulators.values()):
        close(output.double(), expected, 2e-3)
    if cell.x.ndim == 4 and all(p.ndim in (0, 1, 2, 4) for p in model.parameters()):
        last = cell.model(target=model.target).eval().to(memory_format=torch.channels_last)
        last.load_state_dict(ready(cell, cell.model(target=model.target)).state_dict())
        reads = last.reads
        x = cell.x.contiguous(memory_format=torch.channels_last)
        if reads <= {"task"}:
            close(last(x, task=EVEN), expected)


def masks_are_binary(cell: Cell) -> None:
    model = cell.model()
    for modulator in model.modulators.values():
        if not isinstance(modulator.kind, Mask):
            continue
        given = reads_of(cell, model, 0)
        context = model.context((cell.x,), given.get("task"), given.get("condition"))
        raws = by_site(modulator(context).row(0))
        for site in modulator.sites:
            mask = modulator.kind.mask(site, raws[site.label])
            assert set(mask.unique().tolist()) <= set(modulator.kind.values)
            assert 0 < float((mask != 0).double().mean()) < 1
            if hasattr(modulator.kind, "density"):
                assert int(mask.detach().sum()) == round(modulator.kind.density * mask.numel())


def devices_agree(cell: Cell) -> None:
    """A model that moves to the GPU says the same there (a law where there is one)."""
    model = ready(cell, cell.model()).eval()
    expected, prints = cell.call(model, EVEN), model.target.fingerprint()
    there = replace(cell, x=cell.x.cuda(), condition=cell.condition.cuda())
    close(there.call(model.cuda(), EVEN).cpu(), expected)
    assert model.target.fingerprint() == prints


LAWS = [
    identity_is_exact,
    modulation_has_an_effect,
    mixed_equals_singles_equals_slow,
    order_is_irrelevant,
    training_reaches_every_parameter_and_not_the_target,
    other_tasks_stand_still,
    sealing_changes_nothing,
    baking_equals_the_model,
    round_trips,
    dtypes_and_layouts,
    masks_are_binary,
]

if torch.cuda.is_available():
    LAWS.append(devices_agree)
