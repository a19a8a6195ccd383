import json
import os
import subprocess
import sys

import numpy as np
import torch

from tasks.runs import environment


def test_the_environment_says_what_ran_where(known_commit):
    record = environment.environment(["python", "-m", "tasks"], "cpu")
    assert record["command"] == ["python", "-m", "tasks"]
    assert (record["commit"], record["dirty"], record["device"]) == ("c0ffee" * 6, False, "cpu")
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["versions"]["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert (record["machine"]["cores"], record["machine"]["threads"]) == (os.cpu_count(), torch.get_num_threads())
    assert record["machine"]["processor"]
    assert record["resumed"] == []
    assert json.loads(json.dumps(record)) == record


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_commit_is_that_of_the_checkout_and_results_are_no_change_of_code(tmp_path):
    assert environment.code(tmp_path) == environment.Code("unknown", None)
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    clean = environment.code(tmp_path)
    assert (len(clean.commit), clean.dirty) == (40, False)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "ledger.json").write_text("[]")
    assert environment.code(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert environment.code(tmp_path) == environment.Code(clean.commit, True)
    inner = tmp_path / "vendored"
    inner.mkdir()
    assert environment.code(inner) == environment.Code("unknown", None)


def test_an_exported_copy_knows_its_commit(tmp_path):
    folder, copy = tmp_path / "checkout", tmp_path / "copy"
    (folder / "tasks").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / ".gitattributes").write_text("tasks/commit.txt export-subst\n")
    (folder / "tasks" / "commit.txt").write_text("$Format:%H$\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    copy.mkdir()
    git(folder, "archive", "-o", str(tmp_path / "copy.tar"), "HEAD")
    subprocess.run(["tar", "-xf", str(tmp_path / "copy.tar"), "-C", str(copy)], check=True)
    assert environment.code(copy) == environment.Code(environment.code(folder).commit, None)
    # A copy by hand has the stamp as it was written, unfilled.
    (copy / "tasks" / "commit.txt").write_text("$Format:%H$\n")
    assert environment.code(copy) == environment.Code("unknown", None)


def test_a_run_that_goes_on_under_other_code_says_so():
    note = environment.Resumed("b" * 40, dirty=False, step=7, began="c0ffee" * 6)
    assert note.elsewhere
    assert str(note) == "note: goes on at step 7 under other code than it began with (c0ffeec0ff)"
    assert environment.Resumed("a", dirty=True, step=7, began="a").elsewhere
    assert not environment.Resumed("a", dirty=False, step=7, began="a").elsewhere
