"""Pools of classes, and what an outer step sees of them."""

from pathlib import Path

import pytest
import torch

from tasks.data.load import load as load_images
from tasks.errors import UserError
from tasks.meta.pools import pools
from tasks.meta.sampling import episodes, sinusoids, trajectory
from tests.images import draw_pool


def test_pools_have_no_class_in_common_and_stand_by_name(omniglot: Path) -> None:
    found = pools(load_images("omniglot", root=omniglot), 2)
    names = [*found.train.names, *found.validation.names, *found.test.names]
    assert len(names) == len(set(names)) == 10
    assert list(found.test.names) == sorted(found.test.names)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [4, 2, 4]
    with pytest.raises(UserError, match="got 6 of 6"):
        pools(load_images("omniglot", root=omniglot), 6)


def test_a_trajectory_is_one_class_then_any() -> None:
    some = draw_pool()
    drawn = trajectory(some, 4, 10, seed=0, step=7)
    assert drawn.labels[:4].unique().tolist() == [drawn.row]
    assert len({tuple(image.flatten().tolist()) for image in drawn.images[:4]}) == 4
    for image, label in zip(drawn.images, drawn.labels, strict=True):
        assert any(torch.equal(image, other.float() / 255) for other in some.images[label])
    again = trajectory(some, 4, 10, seed=0, step=7)
    assert torch.equal(drawn.images, again.images)
    assert not torch.equal(drawn.images, trajectory(some, 4, 10, seed=0, step=8).images)
    with pytest.raises(UserError, match="got 6 of 5"):
        trajectory(some, 6, 1, seed=0, step=0)


def test_an_episode_holds_its_queries_apart() -> None:
    (x, y), (qx, qy) = episodes(draw_pool(), ways=3, shots=2, queries=3, tasks=4, seed=0, step=0)
    assert x.shape == (4, 6, 1, 28, 28)
    assert y[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert qy[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for task in range(4):
        seen = {tuple(image.flatten().tolist()) for image in x[task]}
        assert not seen & {tuple(image.flatten().tolist()) for image in qx[task]}
        assert len(seen) == 6
    with pytest.raises(UserError, match=r"2 \+ 4 of 5 images"):
        episodes(draw_pool(), ways=3, shots=2, queries=4, tasks=1, seed=0, step=0)


def test_waves_are_waves() -> None:
    (x, y), (qx, qy) = sinusoids(500, 10, 10, seed=0, step=0)
    both = torch.cat([x, qx], 1).squeeze(2), torch.cat([y, qy], 1).squeeze(2)
    # a sin(x - p) = u sin x + v cos x: two numbers explain twenty points.
    basis = torch.stack([both[0].sin(), both[0].cos()], 2).double()
    fitted = torch.linalg.lstsq(basis, both[1].double()[..., None]).solution.squeeze(2)
    assert torch.allclose((basis @ fitted[..., None]).squeeze(2), both[1].double(), atol=1e-5)
    amplitude = fitted.norm(dim=1)
    assert 0.1 <= float(amplitude.min()) < 0.3
    assert 4.8 < float(amplitude.max()) <= 5.001
    assert -5 <= float(both[0].min()) < -4.9


def test_turned_classes_are_the_same_images_turned_as_one() -> None:
    plain, turned = (
        episodes(draw_pool(), ways=3, shots=2, queries=3, tasks=4, seed=0, step=0, turned=turned)
        for turned in (False, True)
    )
    seen = set()
    for task in range(4):
        for c in range(3):
            places = [part[1][task] == c for part in (plain.support, plain.query)]
            x, y = (torch.cat([e.support[0][task][places[0]], e.query[0][task][places[1]]]) for e in (plain, turned))
            (k,) = [k for k in range(4) if torch.equal(x.rot90(k, (-2, -1)), y)]
            seen.add(k)
    assert len(seen) > 1
    assert torch.equal(plain.query[1], turned.query[1])
