"""How many outputs of a list of jobs there are, and when the last one will be: a bar, or a line now and then."""

import time
from collections.abc import Mapping
from pathlib import Path

from ddhub.base import progress
from ddhub.base.log import say
from ddhub.base.units import duration


class Tally:
    """Counts files, so that what other processes finish counts too.

    Args:
        name: what people call the outputs, as `rows`.
        costs: of every output, in any unit; the time that is left is told by them.
        at_once: outputs that are made at the same time; before so many have come, nobody knows their pace.
    """

    def __init__(self, name: str, costs: Mapping[Path, float], at_once: int = 1) -> None:
        self.name, self.costs, self._at_once = name, costs, at_once
        self._missing = {path for path in costs if not path.exists()}
        self._work, self._begun, self._lined = self._left(), time.monotonic(), 0.0
        self._before = self.done
        self._pace = progress.Pace(start_up=False)  # the first outputs of several processes come together
        self._bar = progress.Bar(name, len(costs), self._told, lines=False)

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, *fault: object) -> None:
        self._bar.__exit__(*fault)

    @property
    def done(self) -> int:
        """Outputs that were there when somebody looked last."""
        return len(self.costs) - len(self._missing)

    def look(self) -> None:
        """See what is there by now, and say it where that is new."""
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
        rest = self._told() or f"in {duration(now - self._begun)}"
        say(f"{self.name} {self.done}/{len(self.costs)} {100 * self.done // len(self.costs)}% | {rest}")

    def _left(self) -> float:
        return sum(self.costs[path] for path in self._missing)

    def _told(self) -> str:
        """The time that is left, which goes down between two looks."""
        return self._pace.left(self._work) if self._missing and self.done - self._before >= self._at_once else ""
