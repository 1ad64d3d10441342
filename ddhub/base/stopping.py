"""How Ctrl-C, SIGTERM and SIGHUP end a command: after the current step, with everything saved.

A loop closes a `Gate` for each step, and looks at the end of the step whether a signal waits. The first signal waits,
at most PATIENCE seconds. A second signal does not wait. Outside of steps a signal ends the command at once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

from ddhub.base.errors import UserError

PATIENCE = 5.0  # seconds that a signal waits for the end of a step
SOON = 0.1  # seconds in which an abandoned loop has ended
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
    _arrivals.clear()
    outer, Gate.heeded = Gate.heeded, True
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
        Gate.heeded = outer
        _arrivals.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


class Gate:
    """Holds the first signal back while a step runs. Without `heeded` it holds back Ctrl-C alone.

    A signal that nobody has heard when the gate ends goes to the gate around it, or ends the command. `Stopped` then
    replaces a fault of the block and has it as its cause, so that a UserError is still told to the user.
    Only the main thread gets signals, so a gate in another thread does nothing.
    """

    heeded = False  # whether all signals are handled here, not Ctrl-C alone
    _current: "Gate | None" = None

    def __init__(self) -> None:
        self._active = threading.current_thread() is threading.main_thread()
        self._closed = False
        self._number: int | None = None
        self._heard = False
        self._timer: threading.Timer | None = None
        self._outer: Gate | None = None
        self._restore = False

    def __enter__(self) -> Self:
        if self._active:
            self._outer = Gate._current
            handler = signal.getsignal(signal.SIGINT)
            # `_arrived` is there if a signal came while a gate ended.
            self._restore = (
                self._outer is None and not Gate.heeded and handler in (signal.default_int_handler, _arrived)
            )
            if self._restore:
                _arrivals.clear()
                signal.signal(signal.SIGINT, _arrived)
            Gate._current = self  # last: a signal before it would leave the gate behind
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        if not self._active:
            return
        self._leave()  # first, for the same reason
        unheard = None if self._heard else self._number
        self.open()  # a signal that was heard must not come after the loop
        if self._restore:
            _arrivals.clear()
            with contextlib.suppress(ValueError):  # an abandoned loop may be closed by another thread
                signal.signal(signal.SIGINT, signal.default_int_handler)
        if unheard is None:
            return
        if kind is GeneratorExit:  # what an abandoned loop raises reaches nobody
            threading.Timer(SOON, _again, (unheard, Gate.heeded)).start()
        else:
            _pass_on(unheard, fault)

    def _leave(self) -> None:
        """Give the place to the gate around this one. An abandoned loop may end after others have begun."""
        if Gate._current is self:
            Gate._current = self._outer
            return
        inner = Gate._current
        while inner is not None and inner._outer is not self:
            inner = inner._outer
        if inner is not None:
            inner._outer = self._outer

    def close(self, seconds: float) -> None:
        """Begin a step of about so many seconds. No signal waits longer than PATIENCE."""
        self._closed = self._active and seconds <= PATIENCE

    def waits(self) -> bool:
        """Whether a signal waits. Its time no longer runs, so that what it ends can be saved."""
        if self._timer is not None:
            self._timer.cancel()
        return self._number is not None

    def heard(self) -> int | None:
        """Take the signal that waits. The caller ends by it."""
        self._heard = self.waits()
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


def held_back() -> Gate:
    """Run a short block whole: a signal that comes meanwhile ends the command after it, or after the step around it.

    Whatever the block makes must be known by its end to those who clean up, because the signal comes then.
    """
    gate = Gate()
    gate.close(0.0)
    return gate


def _arrived(number: int, frame: FrameType | None) -> None:
    _arrivals.append(number)
    _pass_on(number)


def _again(number: int, heeded: bool) -> None:
    """Send a signal again, unless the command that heeds it has ended."""
    if number in _arrivals or not heeded:
        os.kill(os.getpid(), number)


def _pass_on(number: int, fault: BaseException | None = None) -> None:
    """Let the gate hold a signal back, or end the command."""
    gate = Gate._current
    if gate is None or not gate.holds(number):
        while gate is not None:  # the command ends by this signal, so none is left to be heard
            gate._heard, gate = True, gate._outer
        stopped = Stopped(number)
        if fault is not None:
            raise stopped from fault
        raise stopped
