"""What cheap runs of every family, method and order give, to the last digit: ``python -m tests.house.record OUT [NAME ...]``.

Made before the house was rebuilt and asked again after: numbers of a result by their path, lines of the metrics, and the
bytes of every tensor of the checkpoint and of the store. What a clock says is left out.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tests.images import write

Record = dict[str, Any]
PERMUTED = "stream.tasks=3 steps=30 log_every=10 save_every=20"
BANK = "stream.tasks=4 steps=12 log_every=6 inference.images=20 inference.group=4 outputs=20"
BASELINE = "stream.tasks=3 steps=20 log_every=10 target.kwargs.hidden=[32]"
META_TEST = (
    "data.name=drawings validation=2 net.width=4 net.gate_width=3 test.lengths=[2,3] test.shots=4 test.orders=2 "
    "test.rates={sgd:[0.01,0.1,0.3]} steps=6 log_every=2 save_every=4"
)
META = f"{META_TEST} arm.steps=3 arm.remember=4"
FEW = "data.name=drawings validation=2 ways=3 queries=2 tasks=2 width=4 test.tasks=6 steps=5 log_every=2 save_every=2"
WAVES = "steps=12 log_every=4 save_every=5 test.tasks=20 test.points=10"

# The experiment, then its overrides.
RUNS = {
    "mask": f"demo/supermask {PERMUTED} inference.images=40",
    "norms": f"demo/bn_only {PERMUTED}",
    "film_joint": f"demo/film run=joint {PERMUTED}",
    "low_rank_unseen": f"demo/low_rank_masks {PERMUTED} evaluation.unseen=true schedule=drops",
    "gate_joint": f"demo/gate run=joint {PERMUTED}",
    "nothing": "demo/nothing stream.tasks=3",
    "ridge": "demo/ridge stream.tasks=2",
    "dense": f"demo/dense {PERMUTED}",
    "dense_joint_bfloat16": f"demo/dense run=joint precision=bfloat16 {PERMUTED}",
    "separate": f"baselines/separate {BASELINE}",
    "ewc": f"baselines/ewc {BASELINE}",
    "psp": f"baselines/psp {BASELINE}",
    "batch_ensemble": f"baselines/batch_ensemble {BASELINE}",
    "regularised": (
        "hypernet/split_mnist stream.tasks=5 steps=4 log_every=4 inference.images=30 "
        "modulators.generated.source.chunk=2000 target.kwargs.hidden=[20]"
    ),
    "bank": f"supsup/permuted_250 {BANK} replay.every=2",
    "bank_together": f"supsup/permuted_2500 {BANK} together=3 replay.every=2 inference.at=[2]",
    "bank_transfer": "supsup/transfer transfer=scores stream.tasks=3 steps=20 outputs=20",
    "online": "supsup/online stream.tasks=3 steps=60 batch=16 outputs=40 log_every=1 save_every=1",
    "online_published": (
        "supsup/online_published stream.tasks=2 steps=40 batch=16 outputs=40 allocation.every=20 log_every=1 save_every=1"
    ),
    "hopfield": "supsup/hopfield_split_mnist stream.tasks=2 steps=6 target.kwargs.hidden=[40]",
    "routers": "supsup/split_mnist_routed steps=8 inference.images=20 inference.predictors.units=30 outputs=20",
    "mixture": "routing/mixture stream.tasks=2 target.kwargs.hidden=[16] steps=4 batch=8 log_every=2",
    "questions": "questions/film steps=6 batch=16 log_every=3 target.kwargs.hidden=[30]",
    "criteria": "supermask/criteria steps=30 criteria.densities=[0.3,0.6] target.kwargs.hidden=[30]",
    "bernoulli": "supermask/bernoulli steps=12 target.kwargs.hidden=[30]",
    "starts": "supermask/starts stream.tasks=3 steps=10 target.kwargs.hidden=[30]",
    "batch_norm": (
        "bn_only/decay_14 data.name=tiny data.halve=false steps=6 batch=16 target.kwargs.depth=8 "
        "target.kwargs.width=4 optimizer.lr=1.0 log_every=2"
    ),
    "augmented": (
        "bn_only/heads_14 data.name=tiny data.halve=false steps=6 batch=16 target.kwargs.depth=8 "
        "target.kwargs.width=4 augment=flip_crop channels_last=true log_every=2"
    ),
    "input_vmap": "conditioning/masks_input stream.tasks=2 steps=3 batch=8 target.kwargs.hidden=[12,12]",
    "several": (
        "several/affine_heads data.name=tiny stream.others=[little] steps=6 batch=16 "
        "target.kwargs.hidden=[12] log_every=2"
    ),
    "alphabets": (
        "supsup/alphabets data.name=tiny stream.tasks=2 steps=4 batch=8 inference.images=6 "
        "inference.group=2 inference.predictors.units=8 inference.predictors.rank=2"
    ),
    "which": "supsup/rotated_36_ceiling stream.tasks=3 steps=6 batch=24 target.kwargs.hidden=[16]",
    "meta_anml": f"meta/anml {META} test.rates={{sgd:[0.01,0.1,0.3],adam:[0.001,0.01,0.1]}}",
    "meta_oml": f"meta/oml {META}",
    "meta_sequential": f"meta/sequential {META}",
    "meta_pretrain": f"meta/pretrain {META}",
    "meta_random": f"meta/random {META_TEST}",
    "fewshot_maml": f"meta/fewshot_maml {FEW}",
    "fewshot_cavia": f"meta/fewshot_cavia {FEW}",
    "fewshot_film": f"meta/fewshot_film {FEW} adapt.pretrain=3",
    "fewshot_off": f"meta/fewshot_off {FEW} adapt.pretrain=2",
    "waves_maml": f"meta/waves_maml {WAVES}",
    "waves_cavia": f"meta/waves_cavia {WAVES} schedule=cosine",
}


def data(root: Path) -> Path:
    """Small image sets of noise around prototypes; MNIST is the 5,000 digits, for the root holds none."""
    write(root, "tiny", classes=10, side=8, train=120)
    write(root, "little", classes=6, side=8)
    return write(root, "drawings", classes=10, side=28, train=80)


def record(name: str, root: Path) -> Record:
    """Run it and read it."""
    from tasks.config.load import load
    from tasks.experiment import execute

    experiment, *overrides = RUNS[name].split()
    given = [f"experiment={experiment}", *overrides, "device=cpu", "seed=7", f"data.root='{data(root / 'data')}'"]
    return read(execute(load(given), root=root / "runs", command=["record"]))


def read(folder: Path) -> Record:
    """A finished run: its numbers by path, its lines, its tensors."""
    result = json.loads((folder / "result.json").read_text())
    result.pop("seconds")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("clock", None)
    stored = {f"bank/{p.name}": _sha(p.read_bytes()) for p in sorted((folder / "bank").glob("*.safetensors"))}
    tensors = _tensors(folder / "checkpoint.safetensors")
    return {"result": _flat(result), "lines": lines, "tensors": tensors, "stored": stored}


def _tensors(path: Path) -> list[str]:
    if not path.exists():
        return []
    with safe_open(path, "pt") as content:
        found = [content.get_tensor(key) for key in content.keys()]  # noqa: SIM118 (not a dict)
    return sorted(_sha(f"{t.dtype}{tuple(t.shape)}".encode() + t.contiguous().numpy().tobytes()) for t in found)


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    """Scalars by dotted path; a long list is one digest."""
    if isinstance(node, list) and len(text := json.dumps(node)) > 400:
        return {path: f"sha256 {_sha(text.encode())}"}
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if parts is None:
        return {path: node}
    found: dict[str, Any] = {}
    for key, value in parts:
        found |= _flat(value, f"{path}.{key}" if path else str(key))
    return found


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    out, *names = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for name in names or RUNS:
            made[name] = record(name, Path(folder) / name)
            print(name, flush=True)
    Path(out).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    print(f"{len(made)} runs")
