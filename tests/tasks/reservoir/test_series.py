"""Series are what their equations say: the vectors, loops that read like them, and what may not be asked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import UserError
from tasks.experiment import Bench
from tasks.reservoir import series
from tasks.reservoir.series import Laser, MackeyGlass, Narma, contexts, laser_file, mackey_glass, narma, patterns
from tasks.runs.seeds import seeds


def bench(seed: int = 0, root: object = None) -> Bench:
    return Bench(seeds(seed), data={"root": None if root is None else str(root)})


def test_the_vector_of_narma() -> None:
    """u = .25 throughout: the first five values behind the start, and the fixed point."""
    y = narma(torch.full((400,), 0.25, dtype=torch.float64))
    assert y[:10].tolist() == [0.0] * 10
    assert y[10:15].tolist() == pytest.approx([0.19375, 0.253752, 0.275553, 0.286378, 0.294117], abs=5e-7)
    assert float(y[-1]) == pytest.approx(0.379844, abs=5e-7)


def test_narma_is_the_classical_equation() -> None:
    """Order 10 with .3, .05, 1.5, .1: the sum holds y[t] itself, and the inputs are nine steps apart, not ten."""
    drawn = Narma().draw(bench(3), 60)
    u, y = drawn.inputs[:, 0].tolist(), [0.0, *drawn.targets[:, 0].tolist()]
    assert min(u) >= 0
    assert max(u) < 0.5
    for t in range(9, 60):
        total = 0.0
        for i in range(10):
            total += y[t - i]
        assert y[t + 1] == pytest.approx(0.3 * y[t] + 0.05 * y[t] * total + 1.5 * u[t - 9] * u[t] + 0.1, abs=1e-12)


def test_a_diverging_narma_is_seen_and_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    y = narma(torch.full((400,), 0.5, dtype=torch.float64))
    assert len(y) == 401
    assert bool(torch.isinf(y[-1]))
    # Of seeds 0 to 299 the first draw of 4,200 steps diverges at five: 47, 144, 190, 239 and 266.
    found = {seed: Narma().draw(bench(seed), 4200) for seed in (46, 47, 48)}
    assert [drawn.redrawn for drawn in found.values()] == [0, 1, 0]
    assert all(bool(torch.isfinite(drawn.targets).all()) for drawn in found.values())
    monkeypatch.setattr(series, "narma", lambda u: u / 0)
    with pytest.raises(UserError, match=r"100 draws of 50 steps all did; ask for fewer"):
        Narma().draw(bench(), 50)


def test_mackey_glass_is_runge_kutta_of_its_equation() -> None:
    x = mackey_glass(60)
    known = [1.2] * 17 + x.tolist()

    def slope(now: float, past: float) -> float:
        return 0.2 * past / (1 + past**10) - 0.1 * now

    assert known[17] == 1.2
    for t in range(17, 76):
        now, past = known[t], known[t - 17]
        k1 = slope(now, past)
        k2 = slope(now + 0.5 * k1, past)
        k3 = slope(now + 0.5 * k2, past)
        k4 = slope(now + k3, past)
        assert known[t + 1] == pytest.approx(now + (k1 + 2 * k2 + 2 * k3 + k4) / 6, abs=1e-14)
    # One step from a constant past, whose exact solution is an exponential.
    rest = 0.2 * 1.2 / (1 + 1.2**10) / 0.1
    assert float(x[1]) == pytest.approx(rest + (1.2 - rest) * np.exp(-0.1), abs=1e-6)
    long = mackey_glass(5000)
    assert 0.2 < float(long[500:].min()) < float(long[500:].max()) < 1.4


def test_what_is_asked_is_the_value_so_many_steps_ahead() -> None:
    one, far = MackeyGlass(1).draw(bench(), 100), MackeyGlass(84).draw(bench(), 100)
    assert torch.equal(one.targets[:-1], one.inputs[1:])
    assert torch.equal(one.inputs, far.inputs)
    assert torch.equal(far.targets[:16], far.inputs[84:])


def test_the_laser_is_read_and_never_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "santafe_laser_A.npy", np.arange(50, dtype=np.uint8))
    drawn = Laser().draw(bench(root=tmp_path), 40)
    assert drawn.inputs[:, 0].tolist() == pytest.approx([i / 255 - 0.5 for i in range(40)])
    assert torch.equal(drawn.targets[:-1], drawn.inputs[1:])
    assert len(str(drawn.source["sha256"])) == 64
    monkeypatch.setenv("NEUROMOD_DATA", str(tmp_path))
    assert laser_file(bench()) == tmp_path / "santafe_laser_A.npy"
    monkeypatch.delenv("NEUROMOD_DATA")
    empty = tmp_path / "empty"
    empty.mkdir()
    for root, words in ((None, "NEUROMOD_DATA is not set"), (empty, "empty has no santafe_laser_A.npy")):
        with pytest.raises(UserError, match=f"not drawn but read.*{words}; put data set A") as refused:
            Laser().draw(bench(root=root), 40)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"must hold 61 numbers or more in one row; got uint8, \(50,\)"):
        Laser().draw(bench(root=tmp_path), 60)
    for content, words in ((np.full(50, np.nan), "finite"), (np.array(["a"] * 50), "in one row")):
        np.save(tmp_path / "santafe_laser_A.npy", content)
        with pytest.raises(UserError, match=words):
            Laser().draw(bench(root=tmp_path), 40)
    (tmp_path / "santafe_laser_A.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="an array that numpy wrote"):
        Laser().draw(bench(root=tmp_path), 40)


def test_two_contexts_take_turns() -> None:
    u, y, context = contexts(60, 20, 1)
    assert context.tolist() == [0] * 20 + [1] * 20 + [0] * 20
    for t in range(3, 60):
        wanted = u[t - 1] * u[t - 2] if context[t] == 0 else u[t - 3]
        assert float(y[t]) == pytest.approx(float(wanted), abs=1e-15)
    assert float(u.abs().max()) <= 1


def test_patterns_are_two_sines_and_two_of_period_five() -> None:
    p = patterns(100, 3)[..., 0]
    assert float(p[0, 9]) == pytest.approx(np.sin(2 * np.pi * 9 / 8.8342522))
    for one in p[2:]:
        assert torch.equal(one[:95], one[5:])
        assert float(one.min()) == pytest.approx(-0.9)
        assert float(one.max()) == pytest.approx(0.9)
    assert not torch.equal(p[2], p[3])
