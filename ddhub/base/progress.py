"""Progress of long work: a live bar on a terminal, plain lines elsewhere, and no long silence.

The command line shows progress inside `shown()`, and the long Python functions inside `shown_by_default()`.
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
from ddhub.base.shared import shared
from ddhub.base.units import duration

if TYPE_CHECKING:
    from rich.progress import Progress

SILENCE = 2.0  # seconds without output after which a line says what is going on
LINE = 10.0  # seconds between two plain lines
REDRAW = 0.5  # seconds between two reads of values for a bar
SLOW_TO_LOAD = ("torch", "timm", "datasets", "sklearn", "matplotlib")
BRIEF = 1.0  # seconds of work without a bar

T = TypeVar("T", covariant=True)


class Counted(Iterable[T], Sized, Protocol[T]):
    """An iterable with a length."""


class _Screen:
    """The terminal's bars, in one display that exists only while there is a bar."""

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
        with self._lock:
            if self._display is not None and bar in self._bars:  # `close` may have removed it
                self._display.update(_task(bar), completed=done)

    def remove(self, bar: int) -> None:
        with self._lock:
            if self._display is None or bar not in self._bars:
                return
            self._display.remove_task(_task(bar))
            self._bars.discard(bar)
            if not self._bars:
                self._display.stop()

    def close(self) -> None:
        """Draw nothing more. A bar that a signal left behind would hide the cursor for good."""
        with self._lock:
            self.wanted = False
            for bar in tuple(self._bars):
                self.remove(bar)


def _task(bar: int) -> Any:
    return bar  # rich has a type of its own for these numbers


def _display() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Told(ProgressColumn):
        """Text that is computed each time it is drawn."""

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
        redirect_stdout=False,  # scripts read stdout
    )


_screen = _Screen()


class Bar:
    """The progress of one piece of work; invisible outside `shown()`.

    Args:
        name: the name of the work.
        total: the number of steps; None if it is unknown.
        told: gives the text beside the bar. It is called at any time and from any thread.
        lines: whether the caller prints lines itself, so that no silence has to be broken.
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
        """Whether the bar is drawn."""
        return self._bar >= 0

    def at(self, done: int) -> None:
        """Show the number of finished steps. Brief work gets no bar."""
        if done and self._lines and not self._speaks:
            self._speaks = True
            _doing.append(SPOKEN_FOR)
        if self._bar >= 0:
            _screen.move(self._bar, done)
        elif _screen.live and time.monotonic() - self._begun >= BRIEF:
            self._bar = _screen.add(*self._what, done)


class Pace:
    """Seconds for a unit of work, and for the work that is left.

    Args:
        done: work of earlier processes.
        start_up: whether to leave out the first advance, which may load and compile.
    """

    def __init__(self, done: float = 0, *, start_up: bool = True) -> None:
        self.seconds, self.known = 0.0, False  # seconds for a unit, and whether they are known yet
        self._done, self._seen = done, time.monotonic()
        self._from, self._uncounted = (self._done, self._seen), start_up

    def at(self, done: float) -> None:
        """Note the work that is done by now."""
        if done <= self._done:
            return
        self._done, self._seen = done, time.monotonic()
        self.seconds = (self._seen - self._from[1]) / (done - self._from[0])
        self.known = not self._uncounted
        if self._uncounted:
            self._from, self._uncounted = (self._done, self._seen), False

    def left(self, total: float) -> str:
        """`eta 2m10s`, counting down between two advances; empty while it is unknown."""
        if not self.known or self._done >= total:
            return ""
        return f"eta {duration(max(0.0, self.seconds * (total - self._done) - (time.monotonic() - self._seen)))}"


def track(steps: Counted[T], unit: str) -> Iterator[T]:
    """Iterate over steps and show progress, under the name of the innermost `busy`."""
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
SPOKEN_FOR = ""  # in place of a name: a bar's owner prints lines itself
_doing: list[Doing] = []


def working() -> str:
    """What a command does outside of `busy` blocks: `loading NAME` while a library loads, otherwise `working`."""
    specs = {name: getattr(sys.modules.get(name), "__spec__", None) for name in SLOW_TO_LOAD}
    loading = [name for name, spec in specs.items() if getattr(spec, "_initializing", False)]
    return f"loading {loading[0]}" if loading else "working"


def doing() -> str | None:
    """The text of the innermost `busy`."""
    found = next((what for what in reversed(_doing) if what != SPOKEN_FOR), None)
    return found() if callable(found) else found


@contextlib.contextmanager
def busy(what: Doing) -> Iterator[None]:
    """Name what a block does, in case it takes long. A function is called each time the name is needed."""
    _doing.append(what)
    try:
        yield
    finally:
        _doing.remove(what)


@contextlib.contextmanager
def passed_on(send: Callable[[str], None]) -> Iterator[None]:
    """Send another process each change of what this block does; an empty text if lines say it already."""
    end = threading.Event()

    def watch() -> None:
        said = None
        while not end.wait(0.25):
            what = "" if _doing[-1:] == [SPOKEN_FOR] else doing() or ""
            if what != said:
                said = what
                with contextlib.suppress(OSError, ValueError):  # the other process has ended
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
    """Draw bars in this block, and print a line after two seconds without output."""
    end, heard = threading.Event(), _LastLine()
    watch = threading.Thread(target=_break_silence, args=(end, heard), name="progress", daemon=True)
    _screen.wanted = True
    log.ROOT.addHandler(heard)
    watch.start()
    try:
        with busy(working):
            yield
    finally:
        end.set()
        watch.join()
        log.ROOT.removeHandler(heard)
        _screen.close()


@shared
@contextlib.contextmanager
def shown_by_default() -> Iterator[None]:
    """Show messages and progress in this block as the command line does, unless logging is configured."""
    if log.configured():
        yield
        return
    with log.on_stderr(), shown():
        yield


@shared
@contextlib.contextmanager
def bars_hidden(utils: Any) -> Iterator[None]:
    """Hide the progress bars of huggingface_hub or `datasets` in this block.

    Args:
        utils: the library's module `utils`.
    """
    shown = not utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            utils.enable_progress_bars()


class _LastLine(logging.Handler):
    """Records the time of the last line of output."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self.last = time.monotonic()


def _break_silence(end: threading.Event, heard: _LastLine) -> None:
    """Say what is going on after two seconds without output, then every ten.

    Work that was named before is named after ten seconds. Work in turns would otherwise fill a log.
    """
    said, begun, patience = None, time.monotonic(), SILENCE
    known: set[str] = set()
    while not end.wait(0.25):
        what, now = "stopping" if stopping.asked() else doing(), time.monotonic()
        if what != said:
            said, begun, patience = what, now, LINE if what in known else SILENCE
        if not what or _screen.busy or (_doing[-1:] == [SPOKEN_FOR] and not stopping.asked()):
            continue
        if now - heard.last >= patience:
            say(f"{what} ..." if patience == SILENCE else f"{what} ... {duration(now - begun)}")
            patience = LINE
            known.add(what)
