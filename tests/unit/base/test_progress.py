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

from ddhub.base import log, progress, stopping

pytestmark = pytest.mark.slow

LIVE = """
import time
from ddhub.base import progress
from ddhub.base.log import say, to_stderr
to_stderr()
progress.BRIEF = 0.1
with progress.shown(), progress.busy("net seed 0"):
    for step in progress.track(range(8), "epoch"):
        time.sleep(0.2)
        if step == 4:
            say("a word in between")
say("the end")
"""


@pytest.fixture
def quick(monkeypatch):
    """Patience of tests."""
    monkeypatch.setattr(progress, "SILENCE", 0.3)
    monkeypatch.setattr(progress, "LINE", 0.6)


def test_a_long_silence_is_broken_by_what_goes_on(quick, capsys):
    """Once soon, then from time to time with how long it has taken; of nested work the innermost speaks."""
    with progress.shown():
        time.sleep(0.8)
        with progress.busy("reading pictures"):
            time.sleep(1.8)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "working ..." and "reading pictures ..." in told
    assert re.fullmatch(r"reading pictures \.\.\. \ds", told[-1])


def test_work_that_comes_again_is_announced_once(quick, capsys):
    """The students of each refresh filled the log of a run."""
    with progress.shown():
        for _ in range(3):
            with progress.busy("students"):
                time.sleep(0.8)
            time.sleep(0.5)
    assert capsys.readouterr().err.splitlines().count("students ...") == 1


def test_a_command_that_was_asked_to_stop_says_so(quick, capsys):
    """Whatever it was at, and until it has ended."""
    with contextlib.suppress(KeyboardInterrupt), stopping.heeded(), progress.shown():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            time.sleep(0.8)
    assert capsys.readouterr().err.splitlines()[0] == "stopping ..."


def test_who_speaks_is_not_interrupted(monkeypatch, capsys):
    """Lines of others end a silence too."""
    monkeypatch.setattr(progress, "SILENCE", 1.0)  # five times the time between two lines, for a machine that is busy
    with progress.shown():
        for _ in range(8):
            log.say("a line")
            time.sleep(0.2)
    assert set(capsys.readouterr().err.splitlines()) == {"a line"}


def test_a_program_that_uses_ddhub_is_not_spoken_to(quick, capsys):
    """Only commands say what goes on."""
    with progress.busy("reading pictures"):
        time.sleep(0.8)
    assert capsys.readouterr().err == ""


def test_tracked_steps_are_lines_where_there_is_no_terminal(quick, capsys):
    """Named as the work that they belong to, with what is left."""
    with progress.busy("net seed 0"):
        assert list(map(lambda step: time.sleep(0.2) or step, progress.track(range(8), "epoch"))) == list(range(8))
    told = capsys.readouterr().err.splitlines()
    assert 1 <= len(told) <= 3
    assert all(re.fullmatch(r"net seed 0: epoch \d/8 \d+% \| eta \ds", line) for line in told)


def test_the_time_to_go_does_not_count_the_start(monkeypatch):
    """The first step, which compiles, says nothing of the others; between two steps the time goes down."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    pace = progress.Pace(10)
    told = []
    for now, done in ((60, 11), (62, 12), (64, 13), (65, 13)):
        clock[0] = now
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


def test_another_process_tells_what_it_does():
    """As often as that changes, and nothing after the block."""
    told = []
    with progress.passed_on(told.append):
        for what in ("reading", "compiling"):
            with progress.busy(what):
                time.sleep(0.6)
    assert told[:2] == ["reading", "compiling"]


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
    assert "net seed 0" in text and "━" in text and re.search(r"[3-7]/8 \| eta \ds", text)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).rpartition("a word in between")[2]
    assert "the end" in last and text.count("a word in between") == 1
    assert "\x1b[?25h" in text  # the cursor is back
