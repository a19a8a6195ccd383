"""A support set that adapts a frozen network, and its class means as a head."""

import pytest
import torch
from torch import nn

from neuromod import Affine, Hypernet, Modulated, Modulator, RefusedError, Target
from neuromod.meta import Episodes, cnaps, prototypes
from tests.meta.nets import draw, filled

WAYS, TASKS = 3, 2


def some() -> Episodes:
    labels = torch.arange(WAYS).repeat(2).expand(TASKS, -1)
    return Episodes((draw(TASKS, 6, 4, seed=1), labels), (draw(TASKS, 5, 4, seed=2), labels[:, :5]))


def test_prototypes_answer_by_the_distance_to_each_mean() -> None:
    features, query, labels = draw(6, 4, seed=1), draw(5, 4, seed=2), torch.tensor([0, 1, 3, 0, 1, 3])
    found = prototypes(features, labels, query, 4)
    for c in (0, 1, 3):
        mean = features[labels == c].mean(0)
        assert torch.allclose(found[:, c], -(query - mean).square().sum(1))
    assert bool((found[:, 2] == -torch.inf).all())


def test_prototypes_far_from_zero_are_as_near_to_each_other() -> None:
    features, query, labels = (t.float() for t in (draw(6, 4, seed=1), draw(5, 4, seed=2), torch.arange(6) % 3))
    near = prototypes(features, labels.long(), query, 3)
    far = prototypes(features + 1000, labels.long(), query + 1000, 3)
    assert torch.allclose(far, near, atol=1e-2)


def film(*, moved: bool) -> Modulated:
    """FiLM by two small networks of the mean code of a support set, over a linear layer and a norm."""
    net = filled(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)))
    body = filled(nn.Sequential(nn.Linear(4, 5), nn.Tanh()))
    target = Target(net, draw(2, 4))
    model = Modulated(
        target, Modulator(Affine(), Hypernet("condition", embedding=(None, 4), body=body), target.norms(), seed=0)
    )
    return filled(model, 0.3) if moved else model.double()  # type: ignore[return-value]


def test_every_task_is_encoded_under_its_own_support_set() -> None:
    model, episodes = film(moved=True), some()
    found = cnaps(model, episodes, WAYS)
    (support, labels), (query, _) = episodes
    for task in range(TASKS):
        known, asked = (model(x, condition=support[task]) for x in (support[task], query[task]))
        assert torch.allclose(found[task], prototypes(known, labels[task], asked, WAYS), rtol=1e-9)
        alone = model(query[task], condition=support[1 - task])
        assert not torch.allclose(alone, asked, atol=0.1)


def test_an_identity_start_is_no_adaptation() -> None:
    model, episodes = film(moved=False), some()
    plain = cnaps(Modulated(model.target), episodes, WAYS, adapted=False)
    assert torch.allclose(cnaps(model, episodes, WAYS), plain)


def test_the_order_of_a_support_set_is_nothing_and_its_members_are_something() -> None:
    model, episodes = film(moved=True), some()
    (support, labels), query = episodes
    turned = Episodes((support.flip(1), labels.flip(1)), query)
    assert torch.allclose(cnaps(model, turned, WAYS), cnaps(model, episodes, WAYS))
    other = Episodes((support.roll(1, 0), labels), query)
    assert not torch.allclose(cnaps(model, other, WAYS), cnaps(model, episodes, WAYS), atol=0.1)


def test_a_support_set_without_a_class_is_refused() -> None:
    model, ((images, labels), query) = film(moved=False), some()
    for row, got in (([0, 1, 0, 1, 0, 1], "none of class 2"), ([0, 1, 2, 3, 1, 2], r"labels 0\.\.3")):
        told = Episodes((images, torch.stack([labels[0], torch.tensor(row)])), query)
        with pytest.raises(RefusedError, match=f"its 3 classes; got {got} in task 1; draw it class by class"):
            cnaps(model, told, WAYS)
