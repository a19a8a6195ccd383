"""The skeleton: the network that runs, asked by itself."""

import copy
import pickle
import threading
import time

import pytest
import torch
from torch import Tensor, nn

from neuromod import Affine, Modulated, Modulator, RefusedError, Table, Target, Threshold

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def model() -> Modulated:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    target = Target(net, X)
    masks = Modulator(Threshold(), Table(2), target.weights("*"), seed=0)
    return Modulated(target, masks, Modulator(Affine(), Table(2), target.outputs("1"), seed=1))


def test_edits_take_the_place_of_tensors_for_one_call() -> None:
    m = model()
    own = m.skeleton({}, (X,))
    torch.testing.assert_close(own, m.target(X), rtol=0, atol=0)
    edited = m.skeleton(m.edits(task=1), (X,))
    torch.testing.assert_close(edited, m(X, task=1), rtol=0, atol=0)
    assert not torch.equal(edited, own)
    assert torch.equal(m.skeleton({}, (X,)), own)


def test_folding_first_is_the_same() -> None:
    m = model()
    edits = m.edits(task=0)
    assert torch.equal(m.skeleton.put(m.skeleton.fold(edits), (X,)), m.skeleton(edits, (X,)))


def test_an_activation_is_that_of_the_unmodulated_network() -> None:
    m = model()
    torch.testing.assert_close(m.skeleton.activation("1", (X,)), m.target.pristine[:2](X))
    with pytest.raises(RefusedError, match="needs a module that the forward calls; got '7'"):
        m.skeleton.activation("7", (X,))


def test_apply_moves_its_tensors_and_train_its_mode() -> None:
    m = model()
    m.skeleton.apply(lambda tensor: tensor.float())
    assert {value.dtype for value in m.skeleton.tensors.values()} == {torch.float32}
    assert m.skeleton.layer("0").weight.dtype == torch.float32
    assert m.target.tensors()["0.weight"].dtype == torch.float64
    m.skeleton.train(True)
    assert not m.skeleton.net.training


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_twin_runs_alike(twin_of: object) -> None:
    m = model()
    twin = twin_of(m)  # type: ignore[operator]
    assert torch.equal(twin(X, task=1), m(X, task=1))
    assert twin.skeleton.net is not m.skeleton.net
    assert set(twin.skeleton.tensors) == set(m.skeleton.tensors)


def test_a_copy_shares_parameters_and_not_buffers() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).double()
    m = Modulated(Target(net, X), Modulator(Threshold(), Table(1), Target(net, X).weights("0"), seed=0))
    twin = copy.deepcopy(m.skeleton)
    assert twin.tensors["0.weight"].data_ptr() == m.skeleton.tensors["0.weight"].data_ptr()
    assert twin.tensors["1.running_mean"].data_ptr() != m.skeleton.tensors["1.running_mean"].data_ptr()


def test_readers_are_named() -> None:
    m = model()
    assert m.readers("task") == m.named_modulators()
    assert m.readers("input") == {}


class _Slow(nn.Module):
    """Takes its time while the tensors of a row stand in the place of the network's."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.2)
        return x


def test_a_second_thread_runs_on_a_copy_of_the_network_and_not_of_the_row_on_it() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), _Slow(), nn.Linear(5, 2))
    target, x = Target(net, torch.randn(2, 4)), torch.randn(3, 4)
    model = Modulated(target, Modulator(Threshold(), Table(1), target.weights("*"), seed=1))
    plain, found = target(x), list[Tensor]()
    masked = threading.Thread(target=model, args=(x,), kwargs={"task": 0})
    masked.start()
    time.sleep(0.05)
    other = threading.Thread(target=lambda: found.append(model.skeleton({}, (x,))))
    other.start()
    masked.join()
    other.join()
    assert torch.equal(found[0], plain)
