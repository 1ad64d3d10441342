"""Progress: bars on a terminal, lines elsewhere, no long silence."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from clocks import Clock, Watched

from ddhub.base import log, progress, stopping

LIVE = """
import threading, time
from ddhub.base import progress
from ddhub.base.log import say, to_stderr
drawn, left = threading.Event(), progress.Pace.left
def noted(pace, total):
    text = left(pace, total)
    if text:
        drawn.set()
    return text
progress.Pace.left = noted
to_stderr()
progress.BRIEF = 0
with progress.shown(), progress.busy("net seed 0"):
    for step in progress.track(range(8), "epoch"):
        time.sleep(0.2)
        if step == 4:
            drawn.wait(60)  # the display draws in its own time
            say("a word in between")
say("the end")
"""


@pytest.fixture
def watched(monkeypatch):
    """The thread that breaks silences, on a clock of the test's own."""
    monkeypatch.setattr(progress, "SILENCE", 2.0)
    return Watched(monkeypatch, progress)


def test_a_long_silence_is_broken_by_what_goes_on(watched, capsys):
    """Once soon, then from time to time with how long it has taken; of nested work the innermost speaks."""
    with progress.shown():
        watched.passes(3)
        with progress.busy("reading pictures"):
            watched.passes(13)
    assert capsys.readouterr().err.splitlines() == ["working ...", "reading pictures ...", "reading pictures ... 11s"]


def test_work_that_comes_again_is_announced_once(watched, capsys):
    """The students of each refresh filled the log of a run."""
    with progress.shown():
        for _ in range(3):
            with progress.busy("students"):
                watched.passes(4)
            watched.passes(1)
    assert capsys.readouterr().err.splitlines().count("students ...") == 1


def test_a_command_that_was_asked_to_stop_says_so(watched, capsys):
    """Whatever it was at, and until it has ended."""
    with contextlib.suppress(KeyboardInterrupt), stopping.heeded(), progress.shown():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            watched.passes(3)
    assert capsys.readouterr().err.splitlines() == ["stopping ..."]


def test_who_speaks_is_not_interrupted(watched, capsys):
    """Lines of others end a silence too."""
    with progress.shown():
        for _ in range(8):
            log.say("a line")
            watched.passes(1.75)
    assert capsys.readouterr().err.splitlines() == ["a line"] * 8


def test_a_program_that_uses_ddhub_is_not_spoken_to(watched):
    """Only commands say what goes on."""
    with progress.busy("reading pictures"):
        assert watched.watches == []


def test_tracked_steps_are_lines_where_there_is_no_terminal(monkeypatch, capsys):
    """Named as the work that they belong to, with what is left."""
    clock = Clock(monkeypatch, progress)
    with progress.busy("net seed 0"):
        assert [clock.sleep(4) or step for step in progress.track(range(8), "epoch")] == list(range(8))
    told = ["net seed 0: epoch 3/8 37% | eta 20s", "net seed 0: epoch 6/8 75% | eta 8s"]
    assert capsys.readouterr().err.splitlines() == told


def test_the_time_to_go_does_not_count_the_start(monkeypatch):
    """The first step, which compiles, says nothing of the others; between two steps the time goes down."""
    clock = Clock(monkeypatch, progress)
    pace = progress.Pace(10)
    told = []
    for seconds, done in ((60, 11), (2, 12), (2, 13), (1, 13)):
        clock.sleep(seconds)
        pace.at(done)
        told.append(pace.left(23))
    assert told == ["", "eta 22s", "eta 20s", "eta 19s"]
    assert pace.seconds == 2


def test_a_library_that_loads_is_named(tmp_path, monkeypatch):
    """As long as it is not ready."""
    (tmp_path / "slow_library.py").write_text("from ddhub.base import progress\nsaid = progress.working()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(progress, "SLOW_TO_LOAD", ("slow_library",))
    import slow_library

    assert slow_library.said == "loading slow_library" and progress.working() == "working"


def test_another_process_tells_what_it_does(watched):
    """As often as that changes, and nothing after the block."""
    told = []
    with progress.passed_on(told.append):
        for what in ("reading", "compiling"):
            with progress.busy(what):
                watched.passes(1)
    assert told == ["reading", "compiling"]


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn on a screen of the test's own, at once."""
    found = []
    monkeypatch.setattr(progress, "_screen", progress._Screen())
    monkeypatch.setattr(progress, "BRIEF", 0.0)
    monkeypatch.setattr(progress._Screen, "live", True)
    monkeypatch.setattr(progress, "_display", lambda: Display(found))
    return found


def test_a_bar_begins_where_the_work_does(drawn):
    """That of a resumed run is never drawn at its first step."""
    with progress.Bar("distill", 100, str) as bar:
        bar.at(61)
        bar.at(62)
    assert drawn == [61, 62, "stopped"]


def test_a_bar_that_a_signal_left_behind_goes_with_the_command(drawn):
    """The terminal would have no cursor."""
    with progress.shown():
        left = progress.Bar("distill", 100, str)
        left.at(1)  # its block was never entered
    assert drawn == [1, "stopped"] and not progress._screen.busy
    left.at(2)
    with progress.shown(), progress.Bar("evaluate", 100, str) as bar:
        bar.at(3)
        assert progress._screen._display.tasks == {1: 3}  # the next command draws its own bar alone
        left.at(4)
        left.__exit__()
    assert drawn == [1, "stopped", 3, "stopped"] and progress._screen._display.tasks == {}


class Display:
    """Notes where bars are drawn."""

    def __init__(self, drawn):
        self.drawn, self.tasks, self.made = drawn, {}, 0

    def add_task(self, name, *, completed, **_):
        self.made += 1
        self._draw(self.made - 1, completed)
        return self.made - 1

    def update(self, task, *, completed):
        assert task in self.tasks
        self._draw(task, completed)

    def _draw(self, task, completed):
        self.tasks[task] = completed
        self.drawn.append(completed)

    def start(self):
        pass

    def stop(self):
        self.drawn.append("stopped")

    def remove_task(self, task):
        del self.tasks[task]


@pytest.mark.slow
def test_on_a_terminal_a_bar_moves_and_goes_and_lines_stand(tmp_path):
    """Seen through a real pseudo-terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", LIVE], stderr=theirs, stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    assert done.wait() == 0 and done.communicate()[0] == b""
    text = seen.decode()
    assert "net seed 0" in text and "━" in text and re.search(r"[2-4]/8 \| eta \d", text)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).rpartition("a word in between")[2]
    assert "the end" in last and text.count("a word in between") == 1
    assert "\x1b[?25h" in text  # the cursor is back
