"""A difference beside the weights, against its sentences, one place at a time."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from neuromod import RefusedError, Target, random_delta, shared_delta
from neuromod.target.delta import task_vector
from tests.switch_calls import tuned_copy

X = torch.linspace(-1, 1, 12, dtype=torch.float64).view(2, 6)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()


BASE = network()
TUNED = [tuned_copy(BASE, seed) for seed in range(3)]


def vectors(place: tuple[int, int]) -> list[float]:
    return [float((net[0].weight - BASE[0].weight)[place].detach()) for net in TUNED]  # type: ignore[index]


def elected(moves: list[float]) -> float:
    total = sum(moves)
    sign = 1.0 if total > 0 else -1.0
    return sign * max(abs(m) for m in moves if m * sign > 0)


@pytest.mark.parametrize(
    ("merge", "slow"), [("sum", sum), ("elect", elected), ("ones", lambda moves: float(any(moves)))]
)
def test_one_difference_is_made_of_theirs(merge: str, slow: object) -> None:
    net = shared_delta(BASE, TUNED, merge=merge)  # type: ignore[arg-type]
    for i in range(4):
        for j in range(6):
            assert float(net[0].weight_delta[i, j]) == pytest.approx(slow(vectors((i, j))), abs=1e-12)  # type: ignore[index, operator]


def test_the_network_is_the_base_and_the_difference_is_under_the_fingerprint() -> None:
    before = {name: value.clone() for name, value in BASE.state_dict().items()}
    net = shared_delta(BASE, TUNED)
    assert torch.equal(net(X), BASE(X))
    assert set(net.state_dict()) - set(BASE.state_dict()) == {"0.weight_delta", "2.weight_delta"}
    assert all(torch.equal(value, before[name]) for name, value in BASE.state_dict().items())
    target = Target(net, X)
    with torch.no_grad():
        target.pristine[0].weight_delta[0, 0] += 1  # type: ignore[index, operator]
    with pytest.raises(RefusedError, match="a target never moves"):
        target.verify()


def test_weights_that_did_not_move_get_none() -> None:
    tuned = tuned_copy(BASE, 5)
    with torch.no_grad():
        tuned[0].weight.copy_(BASE[0].weight)  # type: ignore[index]
    assert [name for name, _ in shared_delta(BASE, [tuned]).named_buffers()] == ["2.weight_delta"]


def test_tuned_weights_come_as_network_state_or_file(tmp_path: Path) -> None:
    state = TUNED[0].state_dict()
    save_file(state, tmp_path / "tuned.safetensors")
    for given in (TUNED[0], state, tmp_path / "tuned.safetensors", str(tmp_path / "tuned.safetensors")):
        assert torch.equal(task_vector(BASE, given)["0.weight"], state["0.weight"] - BASE[0].weight)  # type: ignore[index]


def test_a_random_difference_has_the_size_of_the_shared_one() -> None:
    shared = shared_delta(BASE, TUNED)
    drawn, again, other = (random_delta(BASE, like=shared, size=2.0, seed=seed) for seed in (1, 1, 2))
    for name, delta in drawn.named_buffers():
        size = float(dict(shared.named_buffers())[name].square().mean().sqrt())
        assert float(delta.square().mean().sqrt()) == pytest.approx(2 * size, rel=0.4)
        assert torch.equal(delta, dict(again.named_buffers())[name])
        assert not torch.equal(delta, dict(other.named_buffers())[name])


def lacking(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in TUNED[0].state_dict().items() if key != name}


def test_what_no_difference_can_be_made_of(tmp_path: Path) -> None:
    wide = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    broken = tuned_copy(BASE, 4)
    with torch.no_grad():
        broken[2].weight[0, 0] = torch.nan  # type: ignore[index]
    (tmp_path / "not.safetensors").write_text("nothing")
    for tuned, words in (
        ([wide], r"'0\.weight' is \(4, 6\), got .*; pass a checkpoint of the same architecture"),
        ([lacking("2.weight")], r"'2\.weight' is missing, nearest: '0\.weight'"),
        ([broken], r"'2\.weight' of the tuned network has NaN"),
        ([BASE], "all of these weigh the same"),
        ([], r"made of a list of tuned networks; got \[\]"),
        (TUNED[0], "made of a list of tuned networks"),
        ([tmp_path / "not.safetensors"], "read from a safetensors file"),
        ([tmp_path / "absent.safetensors"], "read from a safetensors file"),
    ):
        with pytest.raises(RefusedError, match=words):
            shared_delta(BASE, tuned)  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match=r"'0\.weight' has one already; pass the plain base"):
        shared_delta(shared_delta(BASE, TUNED), TUNED)
    with pytest.raises(RefusedError, match="got none; pass others"):
        random_delta(BASE, like=BASE)
