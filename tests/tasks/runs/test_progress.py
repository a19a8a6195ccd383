"""Progress in a log and on a terminal: how often, and how long is left."""

import io

import pytest

from tasks.runs.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, done: int = 0) -> list[str]:
    """Ten steps, a second each, of which a live line shows every third and a log every thirtieth; the last always."""
    now = [100.0]
    monkeypatch.setattr("tasks.runs.progress.time.monotonic", lambda: now[0])
    shown = Progress("run", 40 + done, done=done, stream=stream, every=3.0)
    for step in range(done + 1, done + 41):
        now[0] += 1.0
        shown.update(step, loss=0.5)
    shown.close()
    return [line for line in stream.getvalue().replace("\r\x1b[2K", "\n").splitlines() if line]


@pytest.mark.parametrize("done", [0, 60])
def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, done: int) -> None:
    lines = run(monkeypatch, io.StringIO(), done)
    share = (done + 30) / (done + 40)
    assert lines == [
        f"run  {done + 30}/{done + 40} ({share:4.0%})  loss 0.5  0:30 spent, 0:10 left",
        f"run  {done + 40}/{done + 40} (100%)  loss 0.5  0:40 spent, 0:00 left",
    ]


def test_a_terminal_has_one_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run(monkeypatch, Terminal())
    assert [line.split()[1] for line in lines] == [f"{step}/40" for step in (*range(3, 40, 3), 40)]


def test_the_first_step_says_how_long_all_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stream = [100.0], io.StringIO()
    monkeypatch.setattr("tasks.runs.progress.time.monotonic", lambda: now[0])
    shown = Progress("run", 10, stream=stream, every=0.1)
    now[0] += 7.0
    shown.update(1)
    assert stream.getvalue().endswith("0:07 spent, 1:03 left\n")
