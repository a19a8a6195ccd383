"""What ``import neuromod`` costs and leaves alone."""

import subprocess
import sys
import tomllib

import neuromod
from tests.house.source import ROOT

# A fresh interpreter: what the tests themselves have imported does not count.
QUIET = """
import sys, torch
state, dtype, threads = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
import neuromod, neuromod.bank.packed, neuromod.inference
assert torch.equal(state, torch.get_rng_state())
assert torch.get_default_dtype() is dtype and torch.get_num_threads() == threads
heavy = {"torchvision", "hydra", "omegaconf", "matplotlib", "PIL", "tasks", "numba"} & set(sys.modules)
assert not heavy, heavy
"""
LIGHT = """
import sys, time, torch
assert "torch._dynamo" not in sys.modules
before = set(sys.modules)
start = time.process_time()
import neuromod
print(time.process_time() - start, len(set(sys.modules) - before))
import neuromod.inference, neuromod.meta, neuromod.analysis, neuromod.training.penalties
compilers = sorted(name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor")))
assert not compilers, compilers[:5]
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_has_no_effect() -> None:
    run(QUIET)


def test_importing_is_light() -> None:
    seconds, modules = run(LIGHT).split()
    assert float(seconds) < 0.3  # of this process alone, above torch's own
    assert int(modules) < 150


def test_the_version_is_that_of_the_project() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert neuromod.__version__ in (wanted, "0+unknown")
