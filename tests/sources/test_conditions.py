"""What a call is conditioned on: labels, support sets, activations, nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuromod import (
    Affine,
    Gate,
    Generated,
    Hypernet,
    LowRank,
    LowRankDelta,
    Mixture,
    Modulated,
    Modulator,
    RefusedError,
    SetEncoder,
    Source,
    Table,
    Target,
    Threshold,
    bake,
)
from tasks.networks import mlp
from tests.contract.laws import close
from tests.target.test_taps import moved

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SETS = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def target() -> Target:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Target(mlp((12,), 5, (10, 8), norm="layer", bias=True).double(), X)


def film(source: Source, t: Target | None = None) -> Modulated:
    t = t or target()
    return moved(Modulated(t, Modulator(Affine(), source, t.norms(), seed=0)))


# ---- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build", [Hypernet, lambda reads, **o: LowRank(3, reads, **o), lambda r, **o: Mixture(3, r, **o)]
)
def test_a_label_is_a_one_hot_condition(build: Any) -> None:
    labelled, one_hot = film(build("condition", labels=4, hidden=6)), film(build("condition", code=4, hidden=6))
    one_hot.load_state_dict(labelled.state_dict())
    labels = torch.tensor([3, 0, 3, 1, 1, 3])
    expected = one_hot(X, condition=torch.eye(4, dtype=torch.float64)[labels])
    close(labelled(X, condition=labels), expected)
    close(labelled(X[1:2], condition=0), expected[1:2])
    assert len(labelled.rows(X, condition=labels)["affine"]) == 3  # distinct labels, not samples


def test_labels_that_share_weights_are_run_together() -> None:
    t = target()
    model = moved(Modulated(t, Modulator(Generated(), Hypernet("condition", labels=4), t.weights("*"), seed=0)))
    calls: list[int] = []
    model.skeleton.net.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    model(X, condition=torch.tensor([3, 0, 3, 1, 1, 3]))
    assert sorted(calls) == [1, 2, 3]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([0, 1, 2, 3, 4, 0]), r"in 0..3; got 4"),
        (torch.tensor(-1), r"in 0..3; got -1"),
        (torch.tensor([0, 1]), r"one per sample \(6\)"),
        (torch.ones(6), "torch.float32"),
        (torch.ones(6, dtype=torch.bool), "torch.bool"),
        (True, "got bool"),
    ],
)
def test_a_wrong_label(labels: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        film(Hypernet("condition", labels=4))(X, condition=labels)


def test_labels_are_for_conditions() -> None:
    with pytest.raises(RefusedError, match="reads 'task'"):
        Hypernet("task", labels=3)


# ---- support sets --------------------------------------------------------------------------------------------------


def test_a_support_set_is_the_mean_of_its_items_features() -> None:
    model = film(Hypernet("condition", embedding=(None, 3), hidden=6))
    source = model.modulators["affine"].source
    assert isinstance(source.body, SetEncoder)
    weight, bias = source.body.parameters()
    close(source.body(SETS), torch.relu(SETS @ weight.T + bias).mean(1))
    each = model(X, condition=SETS)
    for i in range(6):
        close(model(X[i : i + 1], condition=SETS[i]), each[i : i + 1])
    close(model(X, condition=SETS[2])[2], each[2])


def test_the_order_of_a_support_set_does_not_matter_and_its_items_do() -> None:
    model = film(Hypernet("condition", embedding=(None, 3), hidden=6))
    order = torch.tensor([4, 2, 0, 1, 3])
    close(model(X, condition=SETS[:, order]), model(X, condition=SETS))
    changed = SETS.clone()
    changed[:, 4] += 1
    difference = (model(X, condition=changed) - model(X, condition=SETS)).detach().abs()
    assert float(difference.amax(1).min()) > 1e-3
    twice = torch.cat([SETS, SETS], 1)
    close(model(X, condition=twice), model(X, condition=SETS))


def test_a_support_set_of_images_goes_through_the_users_own_body() -> None:
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()).double()
    model = film(Hypernet("condition", body=body, embedding=(None, 1, 5, 5)))
    images = torch.randn(6, 7, 1, 5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    encoded = torch.stack([body(items).mean(0) for items in images])
    close(model.modulators["affine"].source.body(images), encoded)
    assert model(X, condition=images).shape == (6, 5)
    assert bake(model, condition=images[0])(X).shape == (6, 5)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (torch.zeros(6, 0, 3, dtype=torch.float64), "at least one item"),
        (torch.zeros(0, 3, dtype=torch.float64), "at least one item"),
        (torch.zeros(4, 5, 3, dtype=torch.float64), r"\(set, 3\) for all samples, or \(6, set, 3\)"),
        (torch.zeros(6, 5, 4, dtype=torch.float64), r"got \(6, 5, 4\)"),
        (torch.zeros(3, dtype=torch.float64), r"got \(3,\)"),
        (torch.full((5, 3), torch.inf, dtype=torch.float64), "finite numbers; got NaN or infinity"),
    ],
)
def test_a_wrong_support_set(condition: Tensor, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        film(Hypernet("condition", embedding=(None, 3)))(X, condition=condition)


def test_a_condition_of_another_dtype() -> None:
    with pytest.raises(RefusedError, match=r"torch.float64; got torch.float32; convert"):
        film(Hypernet("condition", embedding=3))(X, condition=torch.zeros(3))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Hypernet(embedding=0), "at least 1; got 0"),
        (lambda: Hypernet(embedding=2.5), "at least 1; got 2.5|float"),
        (lambda: Hypernet("condition", labels=2.0), "integer"),
        (lambda: Hypernet(chunk=0), "chunk, .* of 1 or more; got 0"),
        (lambda: LowRank(0), "rank, .* of 1 or more; got 0"),
        (lambda: film(Hypernet("input", hidden=0)), "at least 1; got 0"),
        (lambda: LowRankDelta(1.5), "integer"),
    ],
)
def test_a_wrong_width(build: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        build()


@pytest.mark.parametrize(("reads", "code"), [("condition", (3, None)), ("task", (None, 3)), ("task", (2, 3))])
def test_a_wrong_code(reads: str, code: Any) -> None:
    with pytest.raises(RefusedError, match="None for a set axis in front"):
        Hypernet(reads, embedding=code)


# ---- activations ---------------------------------------------------------------------------------------------------


def test_modulators_that_read_one_activation_share_one_forward_that_stops_there() -> None:
    t = target()
    model = Modulated(
        t,
        Modulator(Gate(), Hypernet("activation:3", hidden=4), t.norms("5"), seed=0),
        Modulator(Affine(), Hypernet("activation:3", hidden=4), t.outputs("7"), seed=0),
    )
    seen: dict[str, int] = {"3": 0, "4": 0}
    for name in seen:

        def count(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            seen[name] += 1

        model.skeleton.layer(name).register_forward_hook(count)
    model(X)
    assert seen == {"3": 2, "4": 1}


@pytest.mark.parametrize("read", ["2", "4", "7"])
def test_an_activation_behind_what_it_modulates_is_a_cycle(read: str) -> None:
    t = target()
    with pytest.raises(RefusedError, match=rf"reads '{read}', which is called behind its site '2' \(a cycle\)"):
        Modulated(t, Modulator(Affine(), Hypernet(f"activation:{read}"), t.norms(), seed=0))
    with pytest.raises(RefusedError, match="cycle"):
        Modulated(t, Modulator(Threshold(), LowRank(2, "activation:1"), t.weights("*"), seed=0))
    Modulated(t, Modulator(Affine(), Hypernet("activation:1"), t.norms(), seed=0))


# ---- nothing, and fixed bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", [Table(None), Hypernet("nothing", hidden=4), LowRank(2, "nothing"), Mixture(2, "nothing", hidden=4)]
)
def test_one_row_for_all_reads_nothing(source: Source) -> None:
    model = film(source)
    assert model.tasks() == ()
    output = model(X)
    assert float((output - model.target(X)).detach().abs().max()) > 1e-3
    close(model(X[2:3]), output[2:3])
    close(bake(model)(X), output)
    with pytest.raises(RefusedError, match="no modulator reads it"):
        model(X, task=0)
    with pytest.raises(RefusedError):
        model.add(3)


def test_a_fixed_body_is_no_parameter_and_is_saved() -> None:
    learnt, fixed = (Hypernet("input", hidden=[6, 7], learn_body=learn) for learn in (True, False))
    first, second = film(learnt), film(fixed)
    names = {n for n, _ in second.named_parameters()}
    assert {n for n, _ in first.named_parameters()} - names == {
        f"modulators.affine.source.body.{i}.{part}" for i in (1, 3) for part in ("weight", "bias")
    }
    assert not any(".body." in n for n in names)
    t = second.target
    again = Modulated(t, Modulator(Affine(), Hypernet("input", hidden=[6, 7], learn_body=False), t.norms(), seed=9))
    assert float((again(X) - second(X)).detach().abs().max()) > 1e-3
    again.load_state_dict(second.state_dict())
    assert torch.equal(again(X), second(X))


def test_a_fixed_body_of_the_user_is_a_copy_and_its_statistics_are_fixed() -> None:
    body = nn.Sequential(nn.Linear(12, 7), nn.BatchNorm1d(7), nn.Dropout()).double()
    body[1].eval()
    model = film(Hypernet("input", body=body, learn_body=False)).train()
    assert [len(list(body.parameters())), body.training, body[1].training] == [4, True, False]
    held = model.modulators["affine"].source.body
    mean = held[1].running_mean.clone()
    assert torch.equal(model(X), model(X))
    assert torch.equal(held[1].running_mean, mean)


def test_gradients_flow_through_an_activation_into_the_input() -> None:
    t = target()
    model = moved(Modulated(t, Modulator(Affine(), Hypernet("activation:1", hidden=4), t.norms(), seed=0)))
    assert torch.autograd.gradcheck(model, (X.clone().requires_grad_(True),))


def test_nan_codes_of_a_task() -> None:
    model = film(Hypernet("task", tasks=2))
    with torch.no_grad():
        model.modulators["affine"].source.codes.table["1"][0] = torch.nan
    model(X, task=0)
    with pytest.raises(RefusedError, match="a task's embedding holds finite numbers"):
        model(X, task=1)


def test_a_body_that_does_not_fit() -> None:
    with pytest.raises(RefusedError, match=r"a body must map embeddings \(rows, ...\) to \(rows, features\)"):
        film(Hypernet("input", body=nn.Unflatten(1, (3, 4))))
    with pytest.raises(RefusedError, match=r"must take embeddings of shape \(6, 12\), torch.float64; it says"):
        film(Hypernet("input", body=nn.Linear(11, 4).double()))
    with pytest.raises(RefusedError, match="to tuple"):
        film(Hypernet("input", body=nn.LSTM(12, 4).double()))


@pytest.mark.parametrize("source", [Hypernet("input"), LowRank(2, "input"), Mixture(2, "input")])
def test_what_depends_on_the_input_is_not_baked(source: Source) -> None:
    with pytest.raises(RefusedError, match="depends on the input can't be baked"):
        bake(film(source))


def test_a_hypernetwork_that_reads_a_condition_is_baked_under_one() -> None:
    with pytest.raises(RefusedError, match="reads the condition; got none"):
        bake(film(Hypernet("condition", labels=3)))
    with pytest.raises(RefusedError, match="one row"):
        bake(film(Hypernet("condition", embedding=3)), condition=SETS[:, 0])
