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
SLOW_TO_LOAD = ("torch", "timm", "datasets", "sklearn", "matplotlib")
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

    def add(self, name: str, total: int | None, told: Callable[[], str], done: int) -> int:
        with self._lock:
            display = self._display = self._display or _display()
            if not self._bars:
                display.start()
            bar = display.add_task(redact.shown(name), total=total, completed=done, told=told)
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
        lines: whether its owner says lines, often enough that nobody has to break a silence.
    """

    def __init__(self, name: str, total: int | None, told: Callable[[], str], lines: bool = True) -> None:
        self._what, self._bar = (name, total, told), -1
        self._begun, self._speaks, self._lines = time.monotonic(), False, lines

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
        if done and self._lines and not self._speaks:
            self._speaks = True
            _doing.append(SPOKEN_FOR)
        if self._bar >= 0:
            _screen.move(self._bar, done)
        elif _screen.live and time.monotonic() - self._begun >= BRIEF:
            self._bar = _screen.add(*self._what, done)


class Pace:
    """How long a unit of work takes here, and how long the rest will.

    Args:
        done: what earlier processes did.
        start_up: whether the first advance, which may load and compile, says nothing of the others.
    """

    def __init__(self, done: float = 0, *, start_up: bool = True) -> None:
        self.seconds, self.known = 0.0, False  # a unit; whether that says anything of those to come
        self._done, self._seen = done, time.monotonic()
        self._from, self._uncounted = (self._done, self._seen), start_up

    def at(self, done: float) -> None:
        """So much is done by now."""
        if done <= self._done:
            return
        self._done, self._seen = done, time.monotonic()
        self.seconds = (self._seen - self._from[1]) / (done - self._from[0])
        self.known = not self._uncounted
        if self._uncounted:
            self._from, self._uncounted = (self._done, self._seen), False

    def left(self, total: float) -> str:
        """`eta 2m10s`, which goes down between two advances; nothing as long as nobody knows."""
        if not self.known or self._done >= total:
            return ""
        return f"eta {duration(max(0.0, self.seconds * (total - self._done) - (time.monotonic() - self._seen)))}"


def track(steps: Counted[T], unit: str) -> Iterator[T]:
    """Go through steps, showing how far they are; named as the innermost `busy`."""
    name, pace, spoken = doing() or unit, Pace(), time.monotonic()

    with Bar(name, len(steps), lambda: pace.left(len(steps))) as bar:
        for done, step in enumerate(steps):
            pace.at(done)
            bar.at(done)
            if not bar.live and done and time.monotonic() - spoken >= LINE:
                so_far = f"{name}: {unit} {done}/{len(steps)} {100 * done // len(steps)}%"
                say(" | ".join(filter(None, [so_far, pace.left(len(steps))])))
                spoken = time.monotonic()
            yield step


Doing = str | Callable[[], str]
SPOKEN_FOR = ""  # in place of a name: steps are counted, and lines come without anybody's help
_doing: list[Doing] = []


def working() -> str:
    """What a command does where no `busy` block says more: it loads a library, as long as one is not ready."""
    specs = {name: getattr(sys.modules.get(name), "__spec__", None) for name in SLOW_TO_LOAD}
    loading = [name for name, spec in specs.items() if getattr(spec, "_initializing", False)]
    return f"loading {loading[0]}" if loading else "working"


def doing() -> str | None:
    """What the innermost `busy` says."""
    found = next((what for what in reversed(_doing) if what != SPOKEN_FOR), None)
    return found() if callable(found) else found


@contextlib.contextmanager
def busy(what: Doing) -> Iterator[None]:
    """Name what a block does, for the case that it takes long; a function is asked whenever somebody wants to know."""
    _doing.append(what)
    try:
        yield
    finally:
        _doing.remove(what)


@contextlib.contextmanager
def passed_on(send: Callable[[str], None]) -> Iterator[None]:
    """Tell another process what this block does, as often as that changes; nothing where lines say it already."""
    end = threading.Event()

    def watch() -> None:
        said = None
        while not end.wait(0.25):
            what = "" if _doing[-1:] == [SPOKEN_FOR] else doing() or ""
            if what != said:
                said = what
                with contextlib.suppress(OSError, ValueError):  # nobody listens any more
                    send(what)

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Draw bars in this block, and break every silence of more than two seconds."""
    end, ear = threading.Event(), _Ear()
    watch = threading.Thread(target=_break_silence, args=(end, ear), name="progress", daemon=True)
    _screen.wanted = True
    log.ROOT.addHandler(ear)
    watch.start()
    try:
        with busy(working):
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
        if not what or _screen.busy or (_doing[-1:] == [SPOKEN_FOR] and not stopping.asked()):
            continue
        if now - ear.last >= patience:
            say(f"{what} ..." if patience == SILENCE else f"{what} ... {duration(now - begun)}")
            patience = LINE
