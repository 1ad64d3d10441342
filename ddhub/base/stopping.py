"""How Ctrl-C, SIGTERM and SIGHUP end a command: after the current step, with everything saved.

A loop closes a `Gate` for each step, and looks at the end of the step whether a signal waits. The first signal waits,
at most PATIENCE seconds. A second signal does not wait. Outside of steps a signal ends the command at once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Self

from ddhub.base.errors import UserError

PATIENCE = 5.0  # seconds that a signal waits for the end of a step
SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]


_arrivals: list[int] = []  # the signals that came since the command began
_kept: list[str] = []  # where the same command goes on, the newest last


def asked() -> bool:
    """Whether a signal has come and the command is ending."""
    return bool(_arrivals)


def goes_on(where: str) -> None:
    """Note where the same command would go on if this one were stopped, as `from the last checkpoint`."""
    _kept[:] = [where]


def last_words() -> str:
    """What is said of a command that was stopped."""
    return "; the same command goes on ".join(["stopped", *_kept])


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def in_place_of(fault: Exception) -> "Stopped | None":
    """The stop that a library turned into a fault of its own, as some do of any exception; None if nobody asked."""
    return None if isinstance(fault, UserError) or not _arrivals else Stopped(_arrivals[0])


def exit_code(fault: KeyboardInterrupt) -> int:
    """The shell's exit code after a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + getattr(fault, "number", signal.SIGINT)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does. A signal that is ignored, as under nohup, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _kept.clear()
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _arrived)
        yield
    except Exception as fault:
        if (stopped := in_place_of(fault)) is not None:
            raise stopped from fault
        raise
    finally:
        _arrivals.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


class Gate:
    """Holds the first signal back while a step runs. Without `heeded` it holds back Ctrl-C alone.

    Only the main thread gets signals, so a gate in another thread does nothing.
    """

    _current: "Gate | None" = None

    def __init__(self) -> None:
        self._active = threading.current_thread() is threading.main_thread()
        self._closed = False
        self._number: int | None = None
        self._timer: threading.Timer | None = None
        self._outer: Gate | None = None
        self._restore = False

    def __enter__(self) -> Self:
        if self._active:
            self._outer, Gate._current = Gate._current, self
            self._restore = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            if self._restore:
                signal.signal(signal.SIGINT, _arrived)
        return self

    def __exit__(self, *fault: object) -> None:
        if not self._active:
            return
        self.open()  # a held-back signal must not come after the loop
        Gate._current = self._outer
        if self._restore:
            _arrivals.clear()
            with contextlib.suppress(ValueError):  # an abandoned loop may be closed by another thread
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def close(self, seconds: float) -> None:
        """Begin a step of about so many seconds. No signal waits longer than PATIENCE."""
        self._closed = self._active and seconds <= PATIENCE

    def heard(self) -> int | None:
        """The signal that waits. Its time no longer runs, so that what it ends can be saved."""
        if self._timer is not None:
            self._timer.cancel()
        return self._number

    def open(self) -> int | None:
        """End a step, and return the signal that waited for it."""
        self._closed = False
        return self.heard()

    def holds(self, number: int) -> bool:
        """Hold a signal back, if possible. It is sent again when the step takes too long."""
        if not self._closed or self._number is not None:
            return False
        self._number = number
        self._timer = threading.Timer(PATIENCE, os.kill, (os.getpid(), number))
        self._timer.daemon = True
        self._timer.start()
        return True


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Run a short block whole: a signal that comes meanwhile ends the command after it."""
    with Gate() as gate:
        gate.close(0.0)
        yield
        number = gate.open()
    if number is not None:
        raise Stopped(number)


def _arrived(number: int, frame: FrameType | None) -> None:
    _arrivals.append(number)
    gate = Gate._current
    if gate is None or not gate.holds(number):
        raise Stopped(number)
