"""Command lines drawn by a seed: right ones, and wrong ones of every kind that a hand makes."""

import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.config.load import load

BASE = ["stream.tasks=2", "outputs=10", "batch=8", "steps=2", "device=cpu", "evaluation.batch=20"]
CONTINUAL = ["demo/supermask", "demo/bn_only", "demo/film", "demo/dense", "demo/nothing", "demo/ridge", "demo/gate"]
CONTINUAL += ["baselines/ewc", "baselines/batch_ensemble", "baselines/psp", "baselines/separate", "supsup/online"]
CONTINUAL += ["demo/low_rank_masks", "supsup/transfer"]
META = {
    "meta/fewshot_maml": [
        "ways=2",
        "shots=1",
        "queries=1",
        "tasks=2",
        "width=4",
        "test.tasks=2",
        "validation=2",
        "steps=1",
    ],
    "meta/waves_maml": ["tasks=2", "test.tasks=4", "test.points=5", "steps=1"],
    "meta/oml": [
        *("validation=2", "net.width=4", "net.gate_width=3", "test.lengths=[2]", "test.shots=3", "test.orders=1"),
        *("test.rates={sgd:[0.01,0.1]}", "arm.steps=2", "arm.remember=3", "steps=1"),
    ],
}
NUMBERS = [
    "0",
    "-1",
    "-7",
    "nan",
    "null",
    "inf",
    "-inf",
    "abc",
    "1.5",
    "1e400",
    "10000000000000000000000000",
    "true",
    "[1]",
]
NUMBERS += ["", "'3'", "{a:1}", "1_0", "0x10", "--3", "1e12", "3,4", "range(3)", "$x", "${seed}", "${nothing}"]
COUNTS = [
    "steps",
    "batch",
    "outputs",
    "stream.tasks",
    "evaluation.batch",
    "inference.images",
    "inference.group",
    "threads",
]
COUNTS += [
    "log_every",
    "save_every",
    "seed",
    "optimizer.lr",
    "data.side",
    "data.rgb",
    "data.turn",
    "together",
    "jitter",
]
COUNTS += [
    "allocation.every",
    "allocation.grace",
    "allocation.best",
    "allocation.eps",
    "allocation.trigger",
    "strength",
]
COUNTS += ["decay", "weights_lr", "gates.images", "routing.images", "sampled.samples", "replay.every", "replay.eps"]
COUNTS += ["conditions.batch", "confidence.images", "inference.predictors.rank", "inference.predictors.units"]
COUNTS += [
    "regulariser.beta",
    "target.density",
    "select.held_out",
    "criteria.densities",
    "inference.groups",
    "inference.at",
]
COUNTS += ["target.kwargs.hidden", "optimizer.weight_decay", "optimizer.eps", "allocation.threshold"]
META_COUNTS = ["ways", "shots", "queries", "tasks", "width", "validation", "rate", "test.tasks", "test.points", "clamp"]
META_COUNTS += ["test.shots", "test.orders", "test.lengths", "test.rates", "net.width", "net.gate_width", "arm.steps"]
META_COUNTS += ["arm.remember", "arm.rate", "adapt.rate", "adapt.steps", "adapt.order", "arm.order", "steps", "seed"]
WORDS = {
    "experiment": ["demo/supermsk", "", "../x", "demo", "demo/base", "a,b", "it's"],
    "stream": [
        "permutd",
        "rotated",
        "split",
        "null",
        "several",
        "which",
        "questions",
        "repeated",
        "alphabets",
        "per muted",
    ],
    "learner": ["modulatd", "dense", "ridge", "routed", "null", "ewc"],
    "target": [
        "resnet",
        "mlp_batchnorm",
        "torchvision.models:resnet18",
        "./mynet.py:f",
        "json:dumps",
        "torch.nn:Linear",
    ],
    "run": ["join", "joint", "bank", "online", "nowhere.Family", "math.pi", "few_shot", "tasks.continual.Sequenc"],
    "optimizer": ["sdg", "sgd", "null", "rmsprop"],
    "modulator": ["topk", "topk_table", "film_hypernet", "affine_heads", "lora_input", "null"],
    "optimizer._target_": [
        "torch.optim.Nope",
        "torch.optim.SGD",
        "math.pi",
        "torch.nn.Linear",
        "1",
        "torch.optim.LBFGS",
    ],
    "stream._target_": ["tasks.streams:permuted", "json.dumps", "os.getcwd", "tasks.continual.streams.permutd"],
    "learner._target_": ["tasks.continual.learners.Dens", "json.dumps", "tasks.continual.learners.Ewc"],
    "target.constructor": ["builtins:max", "math:pi", "nothing", "tasks.networks:vgg", "tasks.networks:mlp", "a b:c"],
    "target.init": ["kaiming", "pytorch", "3"],
    "target.norm": ["batch", "frozn", "null"],
    "inference.methods": ["[one_shot]", "[one_shott]", "one_shot", "[3]", "[predictor_lda]", "[nowhere.Thing]", "null"],
    "schedule": ["cosine", "cosin", "math.sqrt", "math.nothing", "null", "3"],
    "precision": ["float32", "bfloat16", "float16", "null"],
    "augment": ["flip_crop", "flip", "math.pow", "null"],
    "device": ["cpu", "cud", "null", "3"],
    "data": [
        "tiny",
        "tinny",
        "x.npz",
        "x.pt",
        "y.csv",
        "tiny.safetensors",
        "",
        "null",
        "a/b",
        "folder:",
        "folder:/nowhere",
    ],
    "data.scaling": ["unit", "unitt", "null"],
    "data.divide": ["true", "yes", "3"],
    "data.root": ["/nowhere", "null", "3", "it's"],
    "transfer": ["masks", "mask", "scores"],
    "title": ["it's", "a, b", "{", "3", "null", "a: b", '"', "\u00fc"],
    "allocation.rule": ["standout", "standup"],
    "measures.own": ["{_target_: math.sqrt}", "{}", "3", "{_target_: 3}", "null", "[1]"],
    "inference": ["null", "3", "{methods: [one_shot]}", "{method: 3}"],
    "configs": ["/nowhere", "", "it's"],
    "regulariser._target_": ["neuromod.OutputRegularise", "json.dumps"],
}
KEYS = ["stpes=3", "optimizer.rl=3", "steps", "=3", "a b=3", "steps.x=3", "~steps", "+anything=1", "++steps=3", "x@y=3"]
KEYS += [
    "stream@run.stream=split",
    "stream@nowhere=split",
    "stream..tasks=2",
    "..=1",
    "hydra.run.dir=x",
    "-x=3",
    "steps==3",
]
KEYS += [
    "target.kwargs.shape=[1]",
    "target.kwargs.bias=true",
    "target.kwargs.nothing=1",
    "modulators.x={kind: 3}",
    "run=3",
]
KEYS += [
    "modulators.supermask.kind.threshold=3",
    "stream={tasks: 3}",
    "optimizer={lr: 0.1}",
    "run.stream.tasks=1",
    "'=1",
]
ODD = [
    "Anna's set",
    "a b",
    "a,b",
    "a=b",
    "a:b",
    "{a}",
    "[a]",
    'a"b',
    "a'b\"c",
    "$a",
    "${a}",
    "\\a",
    "a\\",
    "'a'",
    "\u00e4",
    "(a)",
    "#a",
]


OTHERS = [
    ["list"],
    ["list", "mnist"],
    ["list", "x'y"],
    ["report", "/nowhere"],
    ["report"],
    ["reproduce", "no-such-row"],
    ["ledger", "--run", "x"],
]
OTHERS += [
    ["select", "experiment=demo/supermask"],
    ["select", "experiment=demo/supermsk"],
    ["trian"],
    [],
    ["train"],
    ["train", "-j", "0"],
]
OTHERS += [
    ["train", "--rooot", "x"],
    ["train", "-m", "steps=[1"],
    ["train", "-m", "experiment=demo/supermask", "stream=permuted,spilt"],
]


@functools.cache
def leaves(experiment: str) -> list[str]:
    """Every option of an experiment, as it stands in its resolved config: what is added later is drawn too."""
    known = [key for key, value in _flat(load([f"experiment={experiment}"])) if not isinstance(value, dict)]
    return [key for key in known if key not in ("experiment", "run._target_") and not key.startswith("data.name")]


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        yield f"{path}{key}", value
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")


def draw(rng: random.Random, pictures: Callable[[str], Path]) -> list[str]:
    """One command line without its root.

    Args:
        rng: of all choices.
        pictures: makes a folder of pictures of a name, and returns it.

    """
    meta = rng.random() < 0.2
    experiment = rng.choice(sorted(META) if meta else CONTINUAL)
    given = [f"experiment={experiment}", "data=drawings" if meta else "data=tiny"]
    given += [*META[experiment], "device=cpu"] if meta else BASE
    if experiment == "meta/waves_maml":
        given.remove("data=drawings")
    kind = rng.choice(
        ["right", "number", "option", "option", "option", "word", "words", "key", "path", "several", "cut", "other"]
    )
    if kind == "other":
        return rng.choice(OTHERS)

    def word() -> str:
        key = rng.choice(sorted(WORDS))
        return f"{key}={rng.choice(WORDS[key])}"

    def number() -> str:
        return f"{rng.choice(META_COUNTS if meta else COUNTS)}={rng.choice(NUMBERS)}"

    changes: list[str] = []
    if kind == "number":
        changes = [number()]
    elif kind == "option":
        changes = [f"{rng.choice(leaves(experiment))}={rng.choice(NUMBERS)}"]
    elif kind in ("word", "words"):
        changes = [word() for _ in range(1 + (kind == "words"))]
    elif kind == "key":
        changes = [rng.choice(KEYS)]
    elif kind == "path":
        changes = [f"data=folder:{pictures(rng.choice(ODD))}"]
    elif kind == "several":
        changes = [number(), number(), word(), rng.choice(KEYS)][: rng.randint(2, 4)]
        rng.shuffle(changes)
    elif kind == "cut":
        place = rng.randrange(len(given))
        given[place] = given[place][: rng.randrange(1, len(given[place]))]
    else:
        changes = rng.sample(["seed=3", "log_every=1", "save_every=1", "title=mine", "threads=1"], rng.randint(0, 2))
    return ["train", *given, *changes]
