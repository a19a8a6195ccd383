"""What git can show about a row: that its bar stood as it does when its runs began, and that no number was changed
since.

A file that says when it was written proves nothing; the commit of the run's own code does, if ``bars.yaml`` is a part
of it.

Args:
    row: a row of the ledger, with its runs.
    rows: of the ledger.
    entry: the row's entry in the bars, as it is now.
    bars: all entries, by row.
    history: the commits that are at hand.

"""

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.ledger import bars as bars_file
from tasks.ledger import store
from tasks.ledger.entry import Entry
from tasks.runs.environment import HERE, git

PARTS = ("experiment", "overrides", "metric", "seeds", "bar", "published")


@dataclass
class History:
    """The commits of a checkout as far as they are at hand.

    Args:
        top: the folder of the checkout.
        prefix: the results folder in it, '' for the root.
        shallow: whether older commits are cut off.
        _texts: objects that were read, by name.
        _parsed: YAML that was parsed, by name.

    """

    top: Path
    prefix: str
    shallow: bool
    _texts: dict[str, str | None] = field(default_factory=dict)
    _parsed: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Path) -> "History | None":
        """The history of a results folder; None where it is in no checkout, or in another than this code.

        Runs record the commit of this code: in another checkout that commit says nothing.
        """
        output = git(results, "rev-parse", "--show-toplevel", "--is-shallow-repository", "HEAD")
        if output is None:
            return None
        top, shallow = Path(output.splitlines()[0]).resolve(), output.splitlines()[1] == "true"
        prefix = results.resolve().relative_to(top).as_posix()
        return cls(top, "" if prefix == "." else prefix, shallow) if top == HERE.resolve() else None

    def path(self, *parts: str) -> str:
        """A path below the results folder as git names it."""
        return "/".join(part for part in (self.prefix, *parts) if part)

    def read(self, names: Iterable[str]) -> None:
        """Fetch objects (``COMMIT:path`` or ``COMMIT``) by one process for all."""
        new = [name for name in dict.fromkeys(names) if name not in self._texts]
        if not new:
            return
        request = "".join(f"{name}\n" for name in new).encode()
        command = ["git", "cat-file", "--batch"]
        done = subprocess.run(command, cwd=self.top, input=request, capture_output=True, check=True)
        rest = done.stdout
        for name in new:
            head, _, rest = rest.partition(b"\n")
            self._texts[name] = None
            if not head.endswith((b" missing", b" ambiguous")):
                size = int(head.split()[-1])
                self._texts[name], rest = rest[:size].decode(errors="replace"), rest[size + 1 :]

    def text(self, name: str) -> str | None:
        """The content of one object; None where the history at hand has none."""
        self.read([name])
        return self._texts[name]

    def yaml(self, name: str) -> Any:
        """One YAML file as it was committed; None where it is absent or no YAML."""
        if name not in self._parsed:
            text = self.text(name)
            try:
                self._parsed[name] = None if text is None else bars_file.read_yaml(text, name)
            except UserError:
                self._parsed[name] = None
        return self._parsed[name]

    def versions(self) -> list[tuple[str, str]]:
        """Commit and path of every committed version of a ledger of this layout, latest first."""
        log = git(self.top, "log", "--format=%x00%H", "--name-only", "--", f":(glob){self.path('**', store.NAME)}")
        found = []
        for block in (log or "").split("\0")[1:]:
            commit, *paths = block.split()
            found += [(commit, path) for path in paths if path != self.path(store.NAME)]
        return found


def unproven(row: Mapping[str, Any], entry: Entry, history: History) -> list[str]:
    """Why git does not show that the row's code was committed and its entry stood as it does; empty where it does show it."""
    reasons: dict[str, None] = {}
    for run in row["runs"]:
        if run["dirty"]:
            reasons["it ran with uncommitted code"] = None
        elif run["dirty"] is None:
            reasons["it ran in a copy of the code without git, which can't tell whether the copy was changed"] = None
        if any(later["commit"] != run["commit"] or later["dirty"] is not False for later in run["resumed"]):
            reasons["it was resumed under other code"] = None
        if reason := _entry_reason(run["commit"], entry, history):
            reasons[reason] = None
    return list(reasons)


def wanted(rows: Iterable[Mapping[str, Any]], bars: Mapping[str, Entry], history: History) -> list[str]:
    """The objects that `unproven` will ask for, to be read at once."""
    commits = {(run["commit"], row["row"]) for row in rows if row["row"] in bars for run in row["runs"]}
    paths = [(commit, path) for commit, row in commits for path in ("", *_places(bars[row], history))]
    return sorted({f"{commit}:{path}" if path else commit for commit, path in paths})


def changed_numbers(rows: Iterable[Mapping[str, Any]], bars: Mapping[str, Entry], history: History) -> dict[str, str]:
    """Rows that disagree with a committed ledger: another value of the very same run; a row that was there and is gone."""
    versions = history.versions()
    history.read(f"{commit}:{path}" for commit, path in versions)
    now = {row["row"]: row for row in rows}
    found: dict[str, str] = {}
    for commit, path in versions:
        text = history.text(f"{commit}:{path}")
        for old in [] if text is None else store.unpack(json.loads(text))[0]:
            name, new = old["row"], now.get(old["row"])
            if new is None:
                found.setdefault(name, f"commit {commit[:10]} has this row; a row can't vanish; restore it from git")
                continue
            values = {run["result_sha256"]: run["value"] for run in old["runs"]}
            again = [run for run in new["runs"] if run["result_sha256"] in values]
            if old["metric"] == new["metric"] and any(values[run["result_sha256"]] != run["value"] for run in again):
                found.setdefault(name, f"commit {commit[:10]} has another value of the same run; restore it from git")
            if "proof" in old and "proof" not in new and again:
                found.setdefault(name, f"commit {commit[:10]} has this row with its proof; restore it from git")
    return found


def _places(entry: Entry, history: History) -> list[str]:
    """Where the entry may have stood: its experiment's file, that of its former name, and one file for all."""
    experiments = [entry.experiment, *([entry.was.experiment] if entry.was else [])]
    return [history.path(name, bars_file.NAME) for name in experiments] + [history.path(bars_file.NAME)]


def _entry_reason(commit: str, entry: Entry, history: History) -> str:
    what = "bar" if entry.bar else "entry"
    if history.text(commit) is None:
        return f"the history at hand has no commit {commit[:10]} of its run"
    before = _entry_at(commit, entry, history)
    if before is None:
        return f"its {what} was committed after its run"
    if before.sha256 == entry.sha256:
        return ""
    now = before.was or before.form, entry.was or entry.form
    parts = [part for part in PARTS if _part(before, now[0], part) != _part(entry, now[1], part)]
    return f"its {what} was changed after its run ({', '.join(parts)})"


def _part(entry: Entry, form: Any, part: str) -> Any:
    return getattr(form if part in ("experiment", "overrides", "metric") else entry, part)


def _entry_at(commit: str, entry: Entry, history: History) -> Entry | None:
    """The row's entry as that commit has it."""
    for path in _places(entry, history):
        content = history.yaml(f"{commit}:{path}")
        experiment = path.removeprefix(history.path("")).strip("/").removesuffix(bars_file.NAME).strip("/")
        try:
            fields = dict((content["rows"] if experiment else content)[entry.row])
            # One file held all rows before each experiment had its own: there a row names its experiment.
            return bars_file.entry(entry.row, fields, experiment or fields.pop("experiment"), content.get("seeds"))
        except (UserError, KeyError, TypeError, ValueError):
            continue  # no such file, no such row, or one that could not have run
    return None
