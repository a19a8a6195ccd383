"""Laws about what is not the model's own: the user's network, its mode, the global generators."""

import copy
import pickle
import random
from dataclasses import replace

import numpy as np
import torch

from neuromod import RefusedError, bake
from tests.contract.cells import EVEN, TASKS, Cell
from tests.contract.laws import close, loss_of, reads_of, ready


def identity_is_the_users_network_in_eval(cell: Cell) -> None:
    """At its identity the model is the network in eval mode, whatever mode either is in."""
    if cell.measured:  # there the statistics of the batch are asked for
        return
    net = copy.deepcopy(cell.net).train()
    try:
        model = replace(cell, net=net).model(identity=True, moved=False)
    except RefusedError:
        return  # no identity: `identity_is_exact` says so
    expected = copy.deepcopy(cell.net).eval()(cell.x)
    for training in (True, False):
        model.train(training)
        for _ in range(2):
            close(cell.call(model, EVEN), expected, 1e-12)


def nothing_of_others_moves(cell: Cell) -> None:
    """The user's network, its mode and the global generators are as they were after every public call."""
    net = copy.deepcopy(cell.net).train()

    def state() -> tuple[object, ...]:
        tensors = [t.detach().numpy().tobytes() for t in (*net.parameters(), *net.buffers())]
        modes = [m.training for m in net.modules()]
        asks = [p.requires_grad for p in net.parameters()]
        numbers = np.random.get_state()
        return tensors, modes, asks, torch.get_rng_state().tolist(), random.getstate(), str(numbers)

    before = state()
    own = replace(cell, net=net)
    model = ready(cell, own.model())
    assert state() == before
    for training in (True, False):
        loss_of(cell.call(model.train(training), EVEN)).backward()
        assert state() == before
    if "task" in model.reads:
        model.rows(cell.x, **reads_of(cell, model, 0))
        model.add(TASKS)
        model.seal(1)
    if model.reads <= {"task", "condition", "nothing"}:
        bake(model, **reads_of(cell, model, 0))
    model.load_state_dict(model.state_dict())
    copy.deepcopy(model)
    pickle.dumps(model)
    assert state() == before


LAWS_OF_OTHERS = [identity_is_the_users_network_in_eval, nothing_of_others_moves]
