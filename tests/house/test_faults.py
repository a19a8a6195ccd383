"""What was taken without effect, or failed without a word, before an option was a field: each is refused or right now."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.commands.cli import main
from tasks.config.load import load
from tasks.errors import UserError
from tasks.experiment import execute
from tasks.runs.files import read_json
from tasks.runs.run import config_hash
from tests.images import write
from tests.tasks.report.pages import make_run

WAVES = "experiment=meta/waves_maml"
ONLINE = "experiment=supsup/online"


@pytest.mark.parametrize(
    ("experiment", "override"),
    [
        *((WAVES, o) for o in ("optimizer=sgd", "optimizer.lr=5", "batch=7", "run.together=2", "learner=nothing")),
        *((WAVES, o) for o in ("precision=bfloat16", "inference.methods=[one_shot]", "regulariser.beta=9")),
        *((ONLINE, o) for o in ("schedule=cosine", "transfer=masks", "together=2", "evaluation.unseen=true")),
        *((ONLINE, o) for o in ("regulariser.beta=1", "unseen=true")),
        ("experiment=demo/supermask", "allocation.rule=standout"),
        ("experiment=demo/supermask", "transfer=masks"),
        ("experiment=demo/dense", "compile=true"),
        ("experiment=supsup/permuted_250", "evaluation.unseen=true"),
        ("experiment=meta/pretrain", "arm.order=1"),
        ("experiment=meta/fewshot_maml", "adapt.context=3"),
        *(
            ("experiment=demo/supermask", o)
            for o in ("+anything=1", "+run.anything=1", "+target.anything=1", "~run.steps")
        ),
        *(("experiment=demo/supermask", o) for o in ("+target.kwargs.shape=[1]", "target.kwargs.outputs=3")),
    ],
)
def test_an_option_of_another_family_is_refused(experiment: str, override: str) -> None:
    with pytest.raises(UserError) as caught:
        load([experiment, override])
    assert "\n" not in str(caught.value)


def online(root: Path) -> list[str]:
    """An online run on a small image set."""
    data = f"data.root='{write(root / 'data')}'"
    return [ONLINE, "data=tiny", data, "stream.tasks=2", "batch=16", "outputs=20", "device=cpu"]


def test_precision_is_an_option_of_an_online_run_and_has_an_effect(tmp_path: Path) -> None:
    given = [*online(tmp_path), "steps=20", "jitter=0"]
    plain, half = (
        execute(load([*given, f"precision={p}"]), root=tmp_path, command=[]) for p in ("float32", "bfloat16")
    )
    losses = [[json.loads(x)["loss"] for x in (f / "metrics.jsonl").read_text().splitlines()] for f in (plain, half)]
    assert losses[0] != losses[1]


def test_an_online_run_that_diverges_is_one_line_and_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*online(tmp_path), "steps=60", "log_every=5"]
    diverging = ["optimizer=sgd", "optimizer.lr=1e30", "modulator=affine_heads", "target=mlp_layernorm"]
    assert main(["train", *given, *diverging, "--root", str(tmp_path / "runs")]) == 2
    assert "error: the loss must stay finite; got " in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "runs").glob("*/result.json"))


def test_a_title_a_grid_and_how_often_is_logged_move_no_run_and_threads_do() -> None:
    plain = load(["experiment=demo/supermask"])
    for same in ("title=another", "log_every=7", "select.seeds=[3]"):
        assert config_hash(load(["experiment=demo/supermask", same]), "x") == config_hash(plain, "x")
    for other in ("threads=2", "steps=7", "seed=1"):
        assert config_hash(load(["experiment=demo/supermask", other]), "x") != config_hash(plain, "x")
    assert not set(plain["run"]) & {"arm", "adapt", "allocation", "jitter", "together"}


def folder_of(root: Path, each: int) -> str:
    rng = np.random.default_rng(0)
    for name in "ab":
        (root / "pictures" / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(root / "pictures" / name / f"{i:02}.png")
    return f"data=folder:{root / 'pictures'}"


def test_a_folder_without_a_group_of_test_images_is_measured_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["experiment=demo/supermask", folder_of(tmp_path, 20), "steps=2", "batch=8", "stream.tasks=2", "outputs=10"]
    assert main(["train", *given, "inference.methods=[one_shot]", "--root", str(tmp_path / "runs")]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_json(folder / "result.json")["measures"]["inference"]["one_shot"]["groups"] == {}
    assert "task inference by one_shot: " in capsys.readouterr().out


def test_a_set_without_test_images_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(write(tmp_path) / "tiny.safetensors")
    kept = {key: value for key, value in tensors.items() if key.startswith("train")}
    save_file(kept, tmp_path / "part.safetensors", metadata={"classes": json.dumps([str(i) for i in range(10)])})
    given = ["experiment=demo/supermask", "data=part", f"data.root='{tmp_path}'", "device=cpu", "steps=1"]
    assert main(["train", *given, "--root", str(tmp_path / "runs")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has none; add some, or pass data.divide=true" in line


def test_a_folder_of_a_run_names_nothing_that_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('a run folder was trusted')\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = make_run(tmp_path / "run", 0)
    named = {"_target_": "hostile.Family", "measures": {"own": {"_target_": "hostile"}}}
    config = read_json(folder / "config.json") | {"experiment": "hostile", "run": named}
    (folder / "config.json").write_text(json.dumps(config))
    result = read_json(folder / "result.json")
    result["measures"]["own"] = {"_target_": "hostile.measure"}
    (folder / "result.json").write_text(json.dumps(result))
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert "hostile" not in sys.modules
    with pytest.raises(SystemExit):
        load(["run=hostile.Family"])  # the command line is trusted: the check above can fail
