"""Progress of a list of jobs: outputs done and time left, as a bar or as a line now and then."""

import time
from collections.abc import Mapping
from pathlib import Path

from ddhub.base import progress
from ddhub.base.log import say
from ddhub.base.units import duration


class Tally:
    """Counts output files, so that outputs of other processes count too.

    Args:
        name: the plural noun for the outputs, such as `rows`.
        costs: the cost of each output in any unit, for the estimate of time left.
        at_once: outputs that are made at the same time. Their pace is known once so many are done.
    """

    def __init__(self, name: str, costs: Mapping[Path, float], at_once: int = 1) -> None:
        self.name, self.costs, self._at_once = name, costs, at_once
        self._missing = {path for path in costs if not path.exists()}
        self._work, self._begun, self._lined = self._left(), time.monotonic(), 0.0
        self._before = self.done
        self._pace = progress.Pace(start_up=False)  # the first outputs of several processes come together
        self._bar = progress.Bar(name, len(costs), self._time_left, lines=False)

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, *fault: object) -> None:
        self._bar.__exit__(*fault)

    @property
    def done(self) -> int:
        """The outputs that existed at the last look."""
        return len(self.costs) - len(self._missing)

    def look(self) -> None:
        """Count the existing outputs, and report a new count."""
        before, now = self.done, time.monotonic()
        self._missing = {path for path in self._missing if not path.exists()}
        self._pace.at(self._work - self._left())
        self._bar.at(self.done)
        if self.done > before and len(self.costs) > 1:
            self._say(now)

    def _say(self, now: float) -> None:
        if self._missing and (self._bar.live or now - self._lined < progress.LINE):
            return
        self._lined = now
        rest = self._time_left() or f"in {duration(now - self._begun)}"
        say(f"{self.name} {self.done}/{len(self.costs)} {100 * self.done // len(self.costs)}% | {rest}")

    def _left(self) -> float:
        return sum(self.costs[path] for path in self._missing)

    def _time_left(self) -> str:
        """The time left as text. It goes down between two looks."""
        return self._pace.left(self._work) if self._missing and self.done - self._before >= self._at_once else ""
