"""Time that passes only where a test says so."""

import threading
import time
from types import ModuleType, SimpleNamespace

import pytest


class Clock:
    """Stands in for the module `time` in modules of ddhub. Sleeping moves it."""

    time = staticmethod(time.time)  # the world's, which files have too

    def __init__(self, patch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        self.now = 1000.0
        for module in modules:
            patch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Watch(threading.Event):
    """What a watching thread waits for: it looks once in each turn, and the test goes on after that."""

    def __init__(self) -> None:
        super().__init__()
        self._turn, self._looked = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self._looked.release()
        self._turn.acquire()
        return self.is_set()

    def set(self) -> None:
        super().set()
        self._turn.release()

    def turn(self) -> None:
        assert self._looked.acquire(timeout=60), "the thread has ended"
        self._turn.release()
        assert self._looked.acquire(timeout=60), "the thread has ended"
        self._looked.release()


class Watched:
    """The watching threads of one module: `passes` lets them look four times a second, as they ask for."""

    def __init__(self, patch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self.clock, self.watches = Clock(patch, module), list[Watch]()
        patch.setattr(module, "threading", SimpleNamespace(Event=self._made, Thread=threading.Thread))

    def _made(self) -> Watch:
        self.watches.append(Watch())
        return self.watches[-1]

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.clock.sleep(0.25)
            self.watches[-1].turn()
