"""A router over the sealed tasks of a finished run: the input alone says which masks, in which mixture."""

from typing import Any, Literal

import neuromod
from neuromod import Mixture, Modulator, Target
from neuromod.seeds import derive
from tasks.config.build import call
from tasks.config.fields import Count
from tasks.config.load import load
from tasks.continual.learners.modulated import Modulated
from tasks.continual.streams import Stream
from tasks.errors import UserError
from tasks.experiment import Bench, execute
from tasks.runs.run import Run

SAME, SAME_RUN = ("data", "seed", "device", "threads"), ("target", "stream", "outputs")


class Routed(Modulated):
    """The same target under mixtures of the sealed tasks of a finished run, routed by the input.

    Args:
        target: the frozen network.
        stream: the tasks.
        bench: the run whose target, stream, data and seed the bank shares; the bank is run first where it is not finished.
        bank: the experiment whose tasks are mixed, one that trains them in sequence or jointly.
        form: of the mixture (`neuromod.Mixture`).
        hidden: units of the router.
        vmap: a row of weights per sample in one vmap call.

    """

    def __init__(
        self,
        target: Target,
        stream: Stream,
        bench: Bench,
        *,
        bank: str,
        form: Literal["softmax", "sigmoid", "hard"] = "softmax",
        hidden: Count = 32,
        vmap: bool = False,
    ) -> None:  # reason: the last four are options of a config
        super(Modulated, self).__init__()
        trained = trained_bank(target, stream, bench, bank)
        seed = bench.seeds["source"]
        self.model, self.regulariser = mixture_of(trained, seed, form=form, hidden=hidden, vmap=vmap), None
        self.measures = any(not m.kind.learned for m in self.model.named_modulators().values())


def bank_config(config: Any, bank: str) -> dict[str, Any]:
    """The config of the run whose tasks are routed: the experiment ``bank`` on the target, stream and data of ``config``."""
    own = load([f"experiment={bank}"])
    run = own["run"] | {key: config["run"][key] for key in SAME_RUN}
    return own | {key: config[key] for key in SAME} | {"run": run}


def trained_bank(target: Target, stream: Stream, bench: Bench, bank: str) -> neuromod.Modulated:
    """The network of a finished run of an experiment, which is run now where it is not finished.

    UserError where that experiment trains no modulators, or none in sequence or jointly.

    Args:
        bank: the experiment's name.

    """
    config = bank_config(bench.config, bank)
    folder = execute(config, root=bench.root, command=bench.command, held=bench.held_out)
    learner = call(config["run"]["learner"], "learner", target, stream, bench)
    found = Run.at(folder).load()
    if found is None or "learner" not in found[0].get("state", {}):
        raise UserError(
            f"learner.bank is an experiment that trains tasks in sequence or jointly; got {bank}; name another"
        )
    if not isinstance(learner, Modulated):
        raise UserError(f"learner.bank is an experiment of modulators; got {bank}; name another")
    learner.load_state_dict(found[0]["state"]["learner"])
    return learner.model


def mixture_of(
    trained: neuromod.Modulated,
    seed: int,
    *,
    form: Literal["softmax", "sigmoid", "hard"] = "softmax",
    hidden: int = 32,
    vmap: bool = False,
) -> neuromod.Modulated:
    """The target of a trained network under mixtures of its tasks, which are sealed here; the input alone routes.

    UserError where one of its modulators does not read the task.

    Args:
        trained: the network; every task that it has is sealed.
        seed: of the routers.
        form: of the mixture (`neuromod.Mixture`).
        hidden: units of a router.
        vmap: a row of weights per sample in one vmap call, not one call per row.

    """
    for task in trained.tasks():
        trained.seal(task)
    parts = []
    for name, modulator in trained.named_modulators().items():
        if name not in trained.readers("task"):
            raise UserError(
                f"a router mixes modulators that read the task; {name} reads {modulator.reads}; leave it out"
            )
        source = Mixture(modulator.blended(*trained.tasks()), "input", form=form, hidden=hidden)
        parts.append(Modulator(modulator.kind, source, modulator.sites, seed=derive(seed, "router", name)))
    return neuromod.Modulated(trained.target, *parts, vmap=vmap)
