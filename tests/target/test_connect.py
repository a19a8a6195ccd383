"""Connections that a network never had: nothing changes at 0, any kind acts on them, and growth finds what no mask can."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn

from neuromod import (
    LowRankDelta,
    Modulated,
    Modulator,
    RefusedError,
    Table,
    Target,
    Threshold,
    Wires,
    bake,
    connect,
)
from neuromod.rewiring import Rewiring, rule_of
from neuromod.seeds import generator

X = torch.randn(6, 5, generator=generator("connect"), dtype=torch.float64)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def conv() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.Flatten(), nn.Linear(80, 3)
    )


def test_at_zero_nothing_changes_to_the_bit() -> None:
    for net, ends, x in ((mlp(), ("0", "4"), X), (conv(), ("0", "2"), torch.randn(3, 2, 4, 4))):
        wired = connect(net, *ends, x)
        assert torch.equal(net(x), wired(x))
        assert set(dict(net.named_parameters())) < set(dict(wired.named_parameters()))
        assert not any(name.startswith("weight_from") for module in net.modules() for name in module._parameters)


@pytest.mark.parametrize("kind", [Wires(0.2), LowRankDelta(2), Threshold()])
def test_kinds_act_on_it_as_the_sum_says(kind: object) -> None:
    wired = connect(mlp(), "0", "4", X)
    with torch.no_grad():
        wired[4].weight_from_0.normal_(generator=generator("v"))
    model = Modulated(Target(wired, X), Modulator(kind, Table(2), Target(wired, X).weights("4.weight_from_0")))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=generator("p"))
    for task in (0, 1):
        (v,) = model.edits(task=task).values()
        h = wired[0](X)
        late = wired[3](wired[2](torch.relu(h))) + h @ v.T
        torch.testing.assert_close(model(X, task=task), nn.functional.linear(late, wired[4].weight, wired[4].bias))
        torch.testing.assert_close(bake(model, task=task)(X), model(X, task=task))
    ids = torch.tensor([0, 1, 1, 0, 1, 0])
    rows = torch.stack([model(X[i : i + 1], task=int(t))[0] for i, t in enumerate(ids)])
    torch.testing.assert_close(model(X, task=ids), rows)


def test_a_convolution_reads_channels_by_a_kernel_of_one() -> None:
    x = torch.randn(3, 2, 4, 4)
    wired = connect(conv(), "0", "2", x)
    with torch.no_grad():
        wired[2].weight_from_0.normal_()
    h = wired[0](x)
    late = torch.relu(h) + nn.functional.conv2d(h, wired[2].weight_from_0[:, :, None, None])
    expected = wired[4](nn.functional.conv2d(late, wired[2].weight, wired[2].bias, padding=1).flatten(1))
    torch.testing.assert_close(wired(x), expected)


def test_copies_pickles_and_threads_have_what_they_heard_to_themselves() -> None:
    wired = connect(mlp(), "0", "4", X)
    with torch.no_grad():
        wired[4].weight_from_0.fill_(0.5)
    expected = wired(X)
    for twin in (copy.deepcopy(wired), pickle.loads(pickle.dumps(wired))):
        assert torch.equal(twin(X), expected)
    target = Target(wired, X)
    model = Modulated(target, Modulator(Wires(0.2), Table(1), target.weights("4.weight_from_0"))).eval()
    inputs = [torch.randn(64, 5, dtype=torch.float64) for _ in range(8)]
    alone, found = [model(x, task=0) for x in inputs], [torch.empty(0)] * 8

    def run(i: int) -> None:
        for _ in range(20):
            found[i] = model(inputs[i], task=0)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))


def test_growth_finds_an_absent_edge_and_no_mask_does() -> None:
    # The label is the sign of the last input, which no weight reads; what reaches the classifier is all the others.
    rng = generator("toy")
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    with torch.no_grad():
        for number, p in enumerate(net.parameters()):
            p.uniform_(-0.3, 0.3, generator=generator("toy", number))
        net[0].weight[:, -1] = 0
    x = torch.randn(400, 8, generator=rng)
    y = (x[:, -1] > 0).long()
    accuracies = {}
    for name, kind in (("wires", Wires(0.1)), ("mask", Threshold())):
        target = Target(net, x[:2])
        model = Modulated(target, Modulator(kind, Table(None), target.weights("*")))
        wiring = (
            Rewiring(model, name, rule_of("rigl", every=10), steps=200, density=0.1, scope="uniform")
            if name == "wires"
            else None
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[:300]), y[:300]).backward()
            if wiring is None:
                optimizer.step()
            else:
                wiring.step(optimizer)
        with torch.no_grad():
            accuracies[name] = (model(x[300:]).argmax(1) == y[300:]).float().mean().item()
            if wiring is not None:
                assert wiring.wires["0.weight"][:, -1].any()
    assert accuracies["wires"] > 0.9
    # Whatever a mask keeps, it reads nothing of the last input: outputs are the same for both signs of it.
    assert accuracies["mask"] < 0.7


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (("4", "0"), "leads from a module that is called once to a later one; got '4' to '0', called: 0, 4"),
        (("0", "9"), "joins two modules by name; got '9'; nearest"),
        (("0", "0"), "leads from a module that is called once"),
    ],
)
def test_refused_connections(ends: tuple[str, str], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        connect(mlp(), *ends, X)


def test_refused_layouts_and_a_second_time() -> None:
    with pytest.raises(
        RefusedError, match=r"keeps all axes but the channels; '0' puts out \(3, 4, 4, 4\) and '4' takes \(3, 80\)"
    ):
        connect(conv(), "0", "4", torch.randn(3, 2, 4, 4))
    with pytest.raises(RefusedError, match="are joined once"):
        connect(connect(mlp(), "0", "4", X), "0", "4", X)


def test_the_example_leaves_no_trace_in_train_mode() -> None:
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.5), nn.Linear(7, 7), nn.Linear(7, 3)).double()
    before = torch.get_rng_state()
    wired = connect(net, "0", "4", X)
    assert torch.equal(before, torch.get_rng_state())
    assert net.training
    assert all(module.training for module in wired.modules())
    for name, value in net.state_dict().items():
        assert torch.equal(value, wired.state_dict()[name]), name
    assert torch.equal(net.eval()(X), wired.eval()(X))


def test_a_part_of_a_connected_network_is_refused_alone() -> None:
    wired = connect(mlp(), "0", "4", X)
    with pytest.raises(RefusedError, match="call of it alone, or a second one, at 'weight_from_0'; call the whole"):
        wired[4](torch.randn(2, 6, dtype=torch.float64))
    with pytest.raises(RefusedError, match="call the whole network"):
        wired[2:](torch.randn(2, 7, dtype=torch.float64))
