"""What people see of long work: a live bar on a terminal, plain lines elsewhere, and no long silence.

The command line draws inside `shown()`. A program that uses ddhub gets neither bars nor words about silence.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ddhub.base import log, redact, stopping
from ddhub.base.log import say
from ddhub.base.units import duration

if TYPE_CHECKING:
    from rich.progress import Progress

SILENCE = 2.0  # seconds after which people are told what goes on
LINE = 10.0  # seconds between two plain lines
REDRAW = 0.5  # seconds between two looks at values for a bar
BRIEF = 1.0  # seconds of work that gets no bar

T = TypeVar("T", covariant=True)


class Counted(Iterable[T], Sized, Protocol[T]):
    """What can be gone through and has a length."""


class _Screen:
    """The terminal's bars, all in one display that stands only while there is one."""

    def __init__(self) -> None:
        self.wanted = False  # whether a command draws
        self._display: Progress | None = None
        self._bars: set[int] = set()
        self._lock = threading.RLock()

    @property
    def live(self) -> bool:
        seen = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        return self.wanted and seen and log.ROOT.isEnabledFor(logging.INFO)

    @property
    def busy(self) -> bool:
        return bool(self._bars)

    def add(self, name: str, total: int | None, told: Callable[[], str]) -> int:
        with self._lock:
            display = self._display = self._display or _display()
            if not self._bars:
                display.start()
            bar = display.add_task(redact.shown(name), total=total, told=told)
            self._bars.add(bar)
            return bar

    def move(self, bar: int, done: int) -> None:
        assert self._display is not None
        self._display.update(_task(bar), completed=done)

    def remove(self, bar: int) -> None:
        with self._lock:
            assert self._display is not None
            self._display.remove_task(_task(bar))
            self._bars.discard(bar)
            if not self._bars:
                self._display.stop()


def _task(bar: int) -> Any:
    return bar  # rich gives its plain numbers a name of their own


def _display() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Told(ProgressColumn):
        """Words that are true when they are drawn."""

        max_refresh = None

        def render(self, task: Task) -> Text:
            count = "" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}"
            words = task.fields["told"]()
            return Text(" | ".join(text for text in (count, words) if text))

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        Told(),
        console=Console(stderr=True, markup=False, emoji=False, highlight=False),
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,  # what a script reads is not the display's business
    )


_screen = _Screen()


class Bar:
    """How far one piece of work is; nothing to see where nobody draws.

    Args:
        name: of the work.
        total: steps in all; None where nobody knows.
        told: gives what else there is to say, at any time and from any thread.
    """

    def __init__(self, name: str, total: int | None, told: Callable[[], str]) -> None:
        self._what, self._bar = (name, total, told), -1
        self._begun, self._speaks = time.monotonic(), False

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *fault: object) -> None:
        if self._bar >= 0:
            _screen.remove(self._bar)
            self._bar = -1
        if self._speaks:
            self._speaks = False
            _doing.remove(SPOKEN_FOR)

    @property
    def live(self) -> bool:
        """Whether it is drawn."""
        return self._bar >= 0

    def at(self, done: int) -> None:
        """So many steps are done; what is over in a moment gets no bar."""
        if done and not self._speaks:
            self._speaks = True
            _doing.append(SPOKEN_FOR)
        if self._bar >= 0:
            _screen.move(self._bar, done)
        elif _screen.live and time.monotonic() - self._begun >= BRIEF:
            self._bar = _screen.add(*self._what)
            _screen.move(self._bar, done)


def track(steps: Counted[T], unit: str) -> Iterator[T]:
    """Go through steps, showing how far they are; named as the innermost `busy`."""
    name, begun, spoken, done = doing() or unit, time.monotonic(), time.monotonic(), 0

    def left() -> str:
        return f"eta {duration((time.monotonic() - begun) / done * (len(steps) - done))}" if done else ""

    with Bar(name, len(steps), left) as bar:
        for done, step in enumerate(steps):
            bar.at(done)
            if not bar.live and done and time.monotonic() - spoken >= LINE:
                say(f"{name}: {unit} {done}/{len(steps)} {100 * done // len(steps)}% | {left()}")
                spoken = time.monotonic()
            yield step


SPOKEN_FOR = ""  # in place of a name: steps are counted, and lines come without anybody's help
_doing: list[str] = []


def doing() -> str | None:
    """What the innermost `busy` says."""
    return next((what for what in reversed(_doing) if what != SPOKEN_FOR), None)


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Name what a block does, for the case that it takes long."""
    _doing.append(what)
    try:
        yield
    finally:
        _doing.remove(what)


@contextlib.contextmanager
def shown(what: str) -> Iterator[None]:
    """Draw bars in this block, and break every silence of more than two seconds.

    Args:
        what: is said as long as no `busy` block says more.
    """
    end, ear = threading.Event(), _Ear()
    watch = threading.Thread(target=_break_silence, args=(end, ear), name="progress", daemon=True)
    _screen.wanted = True
    log.ROOT.addHandler(ear)
    watch.start()
    try:
        with busy(what):
            yield
    finally:
        end.set()
        watch.join()
        log.ROOT.removeHandler(ear)
        _screen.wanted = False


class _Ear(logging.Handler):
    """Knows when something was said last."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self.last = time.monotonic()


def _break_silence(end: threading.Event, ear: _Ear) -> None:
    """Say what goes on where nothing else was said: after two seconds, then every ten."""
    said, begun, patience = None, time.monotonic(), SILENCE
    while not end.wait(0.25):
        what, now = "stopping" if stopping.asked() else doing(), time.monotonic()
        if what != said:
            said, begun, patience = what, now, SILENCE
        if what is None or _screen.busy or (_doing[-1:] == [SPOKEN_FOR] and not stopping.asked()):
            continue
        if now - ear.last >= patience:
            say(f"{what} ..." if patience == SILENCE else f"{what} ... {duration(now - begun)}")
            patience = LINE
