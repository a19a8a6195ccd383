"""Arithmetic on packed masks against loops over tasks and weights, on both paths."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuromod import RefusedError
from neuromod.bank import access, plain
from neuromod.bank.packed import counts, difference, mean, overlap, project, superpose
from neuromod.bank.planes import GROUP
from neuromod.kinds.bits import pack
from tests.bank.slow import PATHS, SIZES, bank, draw, heavy, slow_product


def slow_overlap(masks: Tensor) -> Tensor:
    """Intersection over union of the sets of kept weights."""
    sets = [set(mask.nonzero().flatten().tolist()) for mask in masks]
    return torch.tensor([[len(a & b) / len(a | b) if a | b else 1.0 for b in sets] for a in sets])


def test_kept_and_difference_count_bits() -> None:
    for n in SIZES:
        masks, bits = bank(4, n)
        others, packed = bank(4, n, seed=9)
        assert counts(bits).tolist() == [sum(mask.tolist()) for mask in masks]
        assert counts(bits).dtype == torch.int64
        apart = [
            sum(a != b for a, b in zip(x.tolist(), y.tolist(), strict=True)) for x, y in zip(masks, others, strict=True)
        ]
        assert difference(bits, packed).tolist() == apart  # type: ignore[union-attr]
        assert difference(bits[0], packed[0]) == apart[0]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n", SIZES)
def test_sums_over_tasks(n: int, path: access.Path) -> None:
    masks, bits = bank(5, n)
    alphas = draw(5, seed=2)
    slow = slow_product(masks.T, alphas)
    torch.testing.assert_close(superpose(bits, alphas, n, path=path), slow, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(superpose(bits, alphas.float(), n, path=path), slow.float())
    for dtype in (torch.float32, torch.float64, torch.float16):
        shares = torch.tensor([column.sum().item() / 5 for column in masks.T], dtype=dtype)
        assert torch.equal(mean(bits, n, dtype, path=path), shares)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n", SIZES)
def test_exact_scores(n: int, path: access.Path) -> None:
    masks, bits = bank(5, n)
    gradient, several = heavy(n), torch.stack([heavy(n, seed) for seed in range(3)])
    slow = slow_product(masks, gradient)
    torch.testing.assert_close(project(bits, gradient, path=path), slow, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(project(bits, several, path=path), several @ masks.T, rtol=1e-12, atol=1e-11)
    single = project(bits, gradient.float(), path=path)
    assert single.dtype == torch.float32
    assert ((single - slow).abs() <= 1e-6 * gradient.abs().sum()).all()


def test_many_gradients_are_one_product() -> None:
    masks, bits = bank(6, 300)
    gradients = draw(40, 300, seed=3)
    torch.testing.assert_close(project(bits, gradients), gradients @ masks.T)
    torch.testing.assert_close(project(bits, gradients, path="compiled"), gradients @ masks.T)
    assert project(bits, gradients[:0]).shape == (0, 6)
    assert project(bits, gradients[:0], planes=4).shape == (0, 6)
    half = project(bits, gradients.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), gradients @ masks.T, rtol=0.05, atol=0.5)


@settings(max_examples=40, deadline=None)
@given(k=st.integers(0, 40), n=st.integers(0, 700), seed=st.integers(0, 99), planes=st.integers(2, 10))
def test_any_shape_gives_the_same_on_both_paths(k: int, n: int, seed: int, planes: int) -> None:
    masks, bits = bank(k, n, seed)
    gradient, alphas = draw(n, seed=seed), draw(k, seed=seed)
    each: dict[str, Callable[[access.Path], Tensor]] = {
        "planes": lambda path: project(bits, gradient, planes=planes, path=path),
        "overlap": lambda path: overlap(bits, path=path),
    }
    for name, function in each.items():
        assert torch.equal(function("plain"), function("compiled")), name
    for path in PATHS:
        torch.testing.assert_close(project(bits, gradient, path=path), masks @ gradient)  # type: ignore[arg-type]
        torch.testing.assert_close(superpose(bits, alphas, n, path=path), alphas @ masks)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n", [5, 64, 1000, GROUP + 1])
def test_overlap_is_intersection_over_union(n: int, path: access.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, bits = bank(7, n)
    masks[2], bits[2] = 0, 0
    masks[3], bits[3] = 0, 0
    assert torch.equal(overlap(bits, path=path), slow_overlap(masks))
    assert torch.equal(plain.overlap(bits), slow_overlap(masks))  # as other devices do
    from neuromod.bank import fast

    for module in (plain, fast):  # blocks of two rows: pairs within a block, and across
        monkeypatch.setattr(module, "BYTES", 2 * bits.shape[1])
    # In another order: memory that is not written may still hold the answer from above.
    assert torch.equal(overlap(bits.flip(0), path=path), slow_overlap(masks.flip(0)))
    assert torch.equal(counts(bits), masks.sum(-1).long())
    torch.testing.assert_close(project(bits, draw(n), path=path), masks @ draw(n))
    torch.testing.assert_close(superpose(bits, draw(7), n, path=path), draw(7) @ masks)
    torch.testing.assert_close(project(bits, draw(n), planes=16, path=path), masks @ draw(n), atol=n * 1e-4, rtol=0)


@pytest.mark.parametrize("path", PATHS)
def test_strided_views_are_read_as_they_are(path: access.Path) -> None:
    n = 512
    masks, bits = bank(6, n)
    wide = torch.zeros(6, 3 * bits.shape[1] + 1, dtype=torch.uint8)
    wide[:, 1::3] = bits
    for view, own in ((wide[:, 1::3], masks), (bits.flip(0)[::2], masks.flip(0)[::2]), (bits.T.contiguous().T, masks)):
        gradient = draw(n, 2)[:, 0]
        torch.testing.assert_close(project(view, gradient, path=path), own @ gradient)
        torch.testing.assert_close(
            project(view, gradient.float(), planes=12, path=path).double(), own @ gradient, atol=0.3, rtol=0
        )
        alphas = draw(len(own), 2)[:, 1]
        torch.testing.assert_close(superpose(view, alphas, n, path=path), alphas @ own)
        assert torch.equal(overlap(view, path=path), slow_overlap(own))
        assert torch.equal(counts(view), own.sum(-1).long())


def test_no_bank_is_unpacked_as_a_whole() -> None:
    bits = torch.zeros(2500, 1000, dtype=torch.uint8)
    blocks = [(part, mask.shape) for part, mask in plain.columns(bits, 7995, torch.float32)]
    assert max(math.prod(shape) for _, shape in blocks) <= 2**20
    assert [i for part, _ in blocks for i in range(part.start, part.stop)] == list(range(7995))


def test_an_empty_bank() -> None:
    bits = torch.zeros(0, 2, dtype=torch.uint8)
    for path in PATHS:
        assert project(bits, torch.ones(16), planes=4, path=path).shape == (0,)  # type: ignore[arg-type]
        assert torch.equal(superpose(bits, torch.ones(0), 16, path=path), torch.zeros(16))  # type: ignore[arg-type]
        assert overlap(bits, path=path).shape == (0, 0)  # type: ignore[arg-type]
    assert counts(bits).shape == (0,)


ONES = torch.zeros(3, 2, dtype=torch.uint8)
NAN = torch.tensor([0.0] * 5 + [float("nan")] + [0.0] * 10)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: counts(ONES.int()), ("uint8", "torch.int32", "neuromod.kinds.bits.pack")),
        (lambda: counts(ONES[0]), ("(k, bytes)", "(2,)", "neuromod.kinds.bits.pack")),
        (lambda: mean(ONES, 17), ("n=17", "2 bytes", "pass the n")),
        (lambda: mean(ONES[:0], 16), ("at least one task", "none", "add a task")),
        (lambda: superpose(ONES, torch.ones(2), 16), ("one entry per task", "(2,)", "each row")),
        (lambda: superpose(ONES, torch.ones(3).long(), 16), ("alphas", "torch.int64", ".float()")),
        (lambda: superpose(ONES, NAN[3:6], 16), ("alphas", "nan at [2]")),
        (lambda: project(ONES, torch.ones(1, 1, 16)), ("(n,) or (B, n)", "(1, 1, 16)", "flatten")),
        (lambda: project(ONES, torch.ones(20)), ("n=20", "2 bytes", "pass the n")),
        (lambda: project(ONES, torch.ones(16).long()), ("gradient", "torch.int64", ".float()")),
        (lambda: project(ONES, NAN), ("gradient must be finite", "nan at [5]", "lower the loss")),
        (lambda: project(ONES, -torch.stack([torch.ones(16), 1 / torch.zeros(16)])), ("finite", "-inf at [1, 0]")),
        (lambda: project(ONES, torch.ones(16, device="meta")), ("device of the bank", "cpu", "meta", "move")),
        (lambda: project(ONES, torch.ones(16), planes=1), ("[2, 16]", "got 1", "None")),
        (lambda: project(ONES, torch.ones(16), path="quick"), ("'plain', 'compiled'", "'quick'")),  # type: ignore[arg-type]
        (
            lambda: project(ONES, torch.ones(16).half(), path="compiled"),
            ("float32 and float64", "torch.float16", "leave"),
        ),
        (lambda: difference(ONES, ONES[:2]), ("one shape", "(3, 2), (2, 2)", "alike")),
        (lambda: pack(torch.tensor([0.0, 0.5, 1.0])), ("exactly 0 and 1", "got 0.5", "threshold")),
        (lambda: pack(torch.tensor([0, 2])), ("exactly 0 and 1", "got 2", "threshold")),
        (lambda: pack(NAN), ("exactly 0 and 1", "got nan", "threshold")),
    ],
)
def test_refusals_say_what_to_do(call: Callable[[], object], words: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_without_numba_the_plain_path_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert access.kernels(None, ONES) is not plain
    monkeypatch.setattr(access.importlib.util, "find_spec", lambda name: None)
    assert access.kernels(None, ONES) is plain
    with pytest.raises(RefusedError, match=r"needs numba; it is not installed; pip install 'neuromod\[fast\]'"):
        project(ONES, torch.ones(16), path="compiled")
