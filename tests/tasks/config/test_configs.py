"""Every config composes, builds and takes a step; what is mistyped is answered with the nearest name."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import save_file

from neuromod.kinds import Kind
from neuromod.sources import Source
from tasks.config.build import experiment as experiment_of
from tasks.config.files import CONFIGS, options
from tasks.config.load import experiments, load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.runs.files import read_json
from tests.contract.cells import CONFIGS as CONTRACT
from tests.images import write
from tests.tasks.setup import SMALL, learner_of, stream_of, target_of

GROWN = ("Bank", "Online")
FIRST = (
    "demo/base",
    "questions/film",
    "supermask/starts",
    "supsup/online",
    "meta/oml",
    "meta/waves_maml",
    "meta/fewshot_maml",
    "tickets/small",
    "tickets/lenet",
    "tickets/head",
    "reservoir/narma10",
    "reservoir/memory",
    "reservoir/contexts",
    "reservoir/conceptors",
    "sparse/imp",
    "transfer/switch",
    "transfer/described_film",
    "transfer/compressed_film",
    "bytes/film",
    "generator/decoder_film",
    "generator/gan_whole",
)

OWN_TESTS = ("bytes/", "generator/", "meta/", "reservoir/", "tickets/", "transfer/", "sparse/imp")


def small(root: Path, experiment: str, *overrides: str) -> dict[str, Any]:
    """An experiment on a tiny image set that bears the name of its own."""
    given = [f"experiment={experiment}", *SMALL, *overrides]
    asked = load(given)
    if asked["run"]["stream"].get("others") == []:  # one set as it comes, two here
        given.append("stream.others=[other]")
        asked = load(given)
    for position, name in enumerate((asked["data"]["name"], *asked["run"]["stream"].get("others", ()))):
        write(root / "data", name, classes=10 - position)
    if (weights := asked["run"]["target"].get("weights")) is not None:
        target, shape = asked["run"]["target"], (3 if asked["data"]["rgb"] else 1, 8, 8)
        outputs = asked["run"]["outputs"] or 10
        net = get_method(target["constructor"].replace(":", "."))(shape=shape, outputs=outputs, **target["kwargs"])
        save_file(net.state_dict(), root / "data" / f"{weights}.safetensors")
    return load([*given, f"data.root='{root / 'data'}'"])


@pytest.mark.parametrize(
    "experiment",
    [n for n in experiments() if not n.startswith(OWN_TESTS)],
)
def test_every_experiment_takes_a_step_and_measures(experiment: str, tmp_path: Path) -> None:
    asked = small(tmp_path, experiment)
    folder = execute(asked, root=tmp_path, command=["train"], results=tmp_path)
    result, run = read_json(folder / "result.json"), asked["run"]
    assert result["title"] == asked["title"]
    assert (result["metric"], result["better"]) == ("accuracy", "higher")
    assert 0 <= result["value"] <= 1
    grown = run["_target_"].endswith(GROWN)
    matrix = result["measures"]["matrix"]["matrix"]
    assert len(matrix) == (1 if grown else 2)
    assert [len(row) for row in matrix][-1] == 2
    assert set(result["measures"].get("inference", {})) == set(run["measures"]["inference"]["methods"])
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    trained = sum('"phase": "train"' in line for line in lines)
    # log_every=1: a line per step; a joint training of two tasks takes two steps, a block of two tasks one.
    untrained = run["learner"]["_target_"].endswith(("Ridge", "Nothing"))
    assert trained == (0 if untrained else 1 if run.get("together", 1) > 1 else 2)


@pytest.mark.parametrize("name", [n for n in options("target") if n != "custom"])
def test_every_target_is_built_and_runs(name: str, tmp_path: Path) -> None:
    asked = small(tmp_path, "demo/base", f"target={name}")
    stream, target = stream_of(asked), target_of(asked)
    assert target.norm == asked["run"]["target"]["norm"]
    x = stream[0].view(stream[0].test.images[:5])
    assert target(x).shape == (5, asked["run"]["outputs"])
    assert bool(target(x).std() > 0)
    assert target_of(asked).fingerprint() == target.fingerprint()
    drawn = asked["run"]["target"].get("weights") is None
    assert (target_of(asked | {"seed": 1}).fingerprint() != target.fingerprint()) == drawn


@pytest.mark.parametrize("name", options("stream"))
def test_every_stream_is_built(name: str, tmp_path: Path) -> None:
    stream = stream_of(small(tmp_path, "demo/base", f"stream={name}"))
    assert len(stream) == 2
    first, second = (task.view(task.train.images[:4]) for task in stream)
    assert first.shape == (4, *stream.shape)
    labels = [task.train.labels for task in stream]
    # Tasks differ in what is seen or in what is asked, but where the same one comes again.
    assert (torch.equal(first, second) and torch.equal(*labels)) == (name == "repeated")


@pytest.mark.parametrize("name", options("optimizer"))
def test_every_optimizer_moves_a_parameter(name: str, tmp_path: Path) -> None:
    asked = small(tmp_path, "demo/base", f"optimizer={name}", "optimizer.lr=0.25")
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = experiment_of(asked["run"]).optimiser(lambda: [parameter]).begin()
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    parameter.sum().backward()
    optimizer.step()
    assert bool((parameter < 1).all())


def test_every_modulator_is_in_the_contract_and_composes() -> None:
    assert set(options("modulator")) == set(CONTRACT)
    for parts in CONTRACT.values():
        for part in parts.values():
            assert isinstance(instantiate(part["kind"]), Kind)
            assert isinstance(instantiate(part["source"]), Source)
    composed = load(["experiment=demo/base", "modulator=masks_deltas_gates"])["run"]["learner"]["modulators"]
    assert composed == CONTRACT["masks_deltas_gates"]
    assert list(composed) == list(CONTRACT["masks_deltas_gates"])


def test_every_group_is_named_here() -> None:
    groups = {p.name for p in CONFIGS.iterdir() if p.is_dir()}
    assert groups == {"experiment", "run", "target", "stream", "learner", "optimizer", "modulator", "measures"}


@pytest.mark.parametrize("name", [n for n in options("learner") if n != "routed"])
def test_every_learner_is_built(name: str, tmp_path: Path) -> None:
    learner = learner_of(small(tmp_path, "demo/base", f"learner={name}"))
    assert learner.role == ("modulator" if name in ("modulated", "growing", "probed", "supported") else "bracket")
    assert bool(learner.groups()) == (name not in ("ridge", "nothing"))


@pytest.mark.parametrize("name", options("run"))
def test_every_family_is_named_by_an_experiment(name: str) -> None:
    families = {load([f"experiment={e}"])["run"]["_target_"] for e in FIRST}
    assert OmegaConf.load(CONFIGS / "run" / f"{name}.yaml")["_target_"] in families


# ---- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["experiment=demo/basse"], ["experiment", "'demo/basse'", "'demo/base'"]),
        (["experiment=demo/base", "stpes=3"], ["'stpes'", "nearest: 'steps'"]),
        (["experiment=demo/base", "optimizer.rl=3"], ["'optimizer.rl'", "'optimizer.lr'"]),
        (["experiment=demo/base", "target=resnet"], ["target", "'resnet'", "'resnet20'"]),
        (["experiment=demo/base", "stream=rotate"], ["stream", "'rotate'", "'rotated'"]),
        (["experiment=demo/base", "modulator=topk"], ["modulator", "'topk'", "'topk_table'"]),
        (["experiment=demo/base", "steps"], ["key=value", "'steps'", "steps=VALUE"]),
        (["experiment=demo/base", "steps=[1"], ["can't be composed"]),
        (["experiment=meta/oml", "learner=dense"], ["learner", "no place", "choose others"]),
        (["steps=3"], ["one experiment", "[]", "experiment=NAME"]),
        (["experiment=demo/base", "experiment=demo/film"], ["one experiment", "demo/base", "demo/film"]),
        ([], ["one experiment"]),
    ],
)
def test_a_mistyped_override(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load(overrides)
    assert "\n" not in str(caught.value)
    assert re.search(".*".join(map(re.escape, parts)), str(caught.value))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["learner=dence"], ["learner", "'dence'", "'dense'"]),
        (["run=join"], ["run", "'join'", "'joint'"]),
        (["augment=flip"], ["augment", "'flip'", "'flip_crop'"]),
        (["schedule=cosin"], ["schedule", "'cosin'", "'cosine'"]),
        (["precision=float16"], ["precision", "'float16'", "'bfloat16'"]),
        (["device=cud"], ["device", "'cud'", "'cuda'"]),
    ],
)
def test_a_mistyped_word(overrides: list[str], parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        execute(small(tmp_path, "demo/base", *overrides), root=tmp_path, command=[], results=tmp_path)
    assert re.search(".*".join(map(re.escape, parts)), str(caught.value))
    assert "\n" not in str(caught.value)


def test_options_of_a_chosen_file_are_known() -> None:
    asked = load(
        ["experiment=demo/base", "optimizer=sgd", "optimizer.momentum=0.5", "stream=rotated", "stream.degrees=3"]
    )
    assert (asked["run"]["optimizer"]["momentum"], asked["run"]["stream"]["degrees"]) == (0.5, 3)
    chosen = ["modulator=topk_table", "modulators.topk.kind.density=0.3"]
    assert load(["experiment=demo/base", *chosen])["run"]["learner"]["modulators"]["topk"]["kind"]["density"] == 0.3
    with pytest.raises(UserError, match=r"optimizer\.momentum"):
        load(["experiment=demo/base", "optimizer=adam", "optimizer.momentum=0.5"])


# ---- the user's own ----------------------------------------------------------------------------------------------------


def test_a_network_and_a_folder_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_network.py").write_text(
        "import math\nfrom torch import nn\n\n\n"
        "def build(shape, outputs, width=3):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, outputs))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs", "owls"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    given = ["experiment=demo/supermask", *SMALL, "outputs=null", "target=own_network:build"]
    asked = load([*given, f"data=folder:{tmp_path / 'pictures'}"])
    folder = execute(asked, root=tmp_path / "runs", command=[], results=tmp_path)
    result = read_json(folder / "result.json")
    assert result["data"]["name"] == "pictures"
    assert (result["data"]["classes"], result["data"]["shape"]) == (3, [3, 6, 5])
    assert result["costs"]["parameters_per_task"] == 3 * 3 * 6 * 5 + 3 * 3
    with pytest.raises(UserError, match=r"\A[^\n]*own_network has no 'biuld'; nearest: 'build'\Z"):
        execute(
            load([*given[:-1], "target=own_network:biuld", f"data=folder:{tmp_path / 'pictures'}"]),
            root=tmp_path / "runs",
            command=[],
            results=tmp_path,
        )


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("steps=abc", "a whole number"),
        ("optimizer.lr=fast", "a number"),
        ("compile=3", "true or false"),
        ("batch=1.5", "a whole"),
    ],
)
def test_an_override_has_the_kind_of_value_that_it_overrides(override: str, wanted: str) -> None:
    with pytest.raises(
        UserError, match=rf"\A[a-z.]*{override.partition('=')[0]} must be {wanted}.*the default is [^\n]*\Z"
    ):
        load(["experiment=demo/supermask", override])
    load(["experiment=demo/supermask", "steps=7", "optimizer.lr=1", "compile=true"])
